//! Failure codes of the X.224 negotiation (2.2.1.2.2).

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NegotiationFailure {
    /// `SSL_REQUIRED_BY_SERVER`.
    SslRequired,
    /// `SSL_NOT_ALLOWED_BY_SERVER`.
    SslNotAllowed,
    /// `SSL_CERT_NOT_ON_SERVER`.
    NoCertificate,
    /// `INCONSISTENT_FLAGS`.
    InconsistentFlags,
    /// `HYBRID_REQUIRED_BY_SERVER`.
    HybridRequired,
    /// `SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER`.
    UserAuthRequired,
    /// An unknown code.
    Unknown(u32),
}

impl NegotiationFailure {
    pub(super) fn from_code(code: u32) -> Self {
        match code {
            1 => Self::SslRequired,
            2 => Self::SslNotAllowed,
            3 => Self::NoCertificate,
            4 => Self::InconsistentFlags,
            5 => Self::HybridRequired,
            6 => Self::UserAuthRequired,
            other => Self::Unknown(other),
        }
    }

    /// Reason code of the audit log.
    #[must_use]
    pub fn reason_code(self) -> &'static str {
        match self {
            Self::SslRequired => "rdp_ssl_required",
            Self::SslNotAllowed => "rdp_ssl_not_allowed",
            Self::NoCertificate => "rdp_no_certificate",
            Self::InconsistentFlags => "rdp_inconsistent_flags",
            Self::HybridRequired => "rdp_nla_required",
            Self::UserAuthRequired => "rdp_user_certificate_required",
            Self::Unknown(_) => "rdp_refused",
        }
    }
}

impl fmt::Display for NegotiationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SslRequired => f.write_str("it requires TLS"),
            Self::SslNotAllowed => f.write_str("it allows only RDP's own encryption, which is broken"),
            Self::NoCertificate => f.write_str("it has no certificate for TLS"),
            Self::InconsistentFlags => f.write_str("it finds the request inconsistent"),
            Self::HybridRequired => f.write_str("it requires network level authentication (NLA), and the workspace has no credential for it"),
            Self::UserAuthRequired => f.write_str("it requires a user's certificate"),
            Self::Unknown(code) => write!(f, "it gives the unknown code {code}"),
        }
    }
}
