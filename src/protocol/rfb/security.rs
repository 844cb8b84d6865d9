//! Security types (section 7.1.2) and VeNCrypt subtypes, and the choice among those a desktop offers.

use super::{Input, RfbError, Tls};

/// Not a type: a reason follows.
pub(super) const INVALID: u8 = 0;
/// No authentication.
pub(super) const NONE: u8 = 1;
pub(super) const VNC_AUTH: u8 = 2;
/// TLS, and one of [`vencrypt`]'s subtypes inside.
pub(super) const VENCRYPT: u8 = 19;

/// Supported subtypes of VeNCrypt 0.2.
pub(super) mod vencrypt {
    pub(in crate::protocol::rfb) const VERSION: [u8; 2] = [0, 2];
    pub(in crate::protocol::rfb) const TLS_NONE: u32 = 257;
    pub(in crate::protocol::rfb) const TLS_VNC: u32 = 258;
    pub(in crate::protocol::rfb) const TLS_PLAIN: u32 = 259;
    pub(in crate::protocol::rfb) const X509_NONE: u32 = 260;
    pub(in crate::protocol::rfb) const X509_VNC: u32 = 261;
    pub(in crate::protocol::rfb) const X509_PLAIN: u32 = 262;
}

/// Authentication inside TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum InnerAuth {
    None,
    VncAuth,
    Plain,
}

/// A VeNCrypt subtype: its number, TLS and authentication.
pub(super) type SubType = (u32, Tls, InnerAuth);

/// VeNCrypt subtypes, the best one first.
const SUBTYPES: [SubType; 6] = [
    (vencrypt::X509_PLAIN, Tls::X509, InnerAuth::Plain),
    (vencrypt::X509_VNC, Tls::X509, InnerAuth::VncAuth),
    (vencrypt::X509_NONE, Tls::X509, InnerAuth::None),
    (vencrypt::TLS_PLAIN, Tls::Anonymous, InnerAuth::Plain),
    (vencrypt::TLS_VNC, Tls::Anonymous, InnerAuth::VncAuth),
    (vencrypt::TLS_NONE, Tls::Anonymous, InnerAuth::None),
];

/// What the lease requires of a security type.
pub(super) struct SecurityRequirements {
    /// There is a password, and it must be proved.
    pub(super) password: bool,
    /// Name and password can be sent by Plain.
    pub(super) plain: bool,
    /// A certificate is expected.
    pub(super) certificate: bool,
    /// VeNCrypt subtypes that are not chosen.
    pub(super) excluded: Vec<u32>,
}

impl SecurityRequirements {
    /// The acceptable type among those offered. The subtypes of VeNCrypt are not known yet.
    pub(super) fn choose(&self, offered: &[u8]) -> Result<u8, RfbError> {
        if offered.contains(&VENCRYPT) {
            return Ok(VENCRYPT);
        }
        if self.certificate {
            return Err(RfbError::NoCertificate);
        }
        let required = if self.password { VNC_AUTH } else { NONE };
        if offered.contains(&required) {
            Ok(required)
        } else {
            let offered = offered.iter().copied().map(u32::from).collect();
            Err(RfbError::NoAcceptableSecurityType { password: self.password, offered })
        }
    }

    /// The best acceptable VeNCrypt subtype; `offered` has four bytes for each.
    pub(super) fn choose_vencrypt(&self, offered: &[u8]) -> Result<SubType, RfbError> {
        let offers = |kind: u32| {
            !self.excluded.contains(&kind)
                && offered.chunks_exact(4).any(|subtype| subtype == kind.to_be_bytes())
        };
        let can_perform = |inner| match inner {
            InnerAuth::None => !self.password,
            InnerAuth::VncAuth => self.password,
            InnerAuth::Plain => self.plain,
        };
        let mut offers_certificate = false;
        for (kind, tls, inner) in SUBTYPES {
            if !offers(kind) {
                continue;
            }
            offers_certificate |= tls == Tls::X509;
            if can_perform(inner) && (tls == Tls::X509 || !self.certificate) {
                return Ok((kind, tls, inner));
            }
        }
        if self.certificate && !offers_certificate {
            return Err(RfbError::NoCertificate);
        }
        let offered =
            offered.chunks_exact(4).map(|subtype| Input::new(subtype).u32().unwrap_or(0)).collect();
        Err(RfbError::NoAcceptableSecurityType { password: self.password, offered })
    }
}
