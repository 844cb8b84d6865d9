//! The Client Info PDU (2.2.1.11): the logon. The gateway writes the workspace's credential into
//! it; user, password, domain, shell and folder from the browser are never forwarded.

use super::RdpError;
use super::mcs::{self, SendData};
use super::reader::Reader;
use zeroize::Zeroizing;

/// Longest domain, user name or password (2.2.1.11.1.1), in bytes of UTF-16 without the terminator.
const MAX_STRING: usize = 510;
/// `SEC_INFO_PKT` and `SEC_ENCRYPT` of the security header (2.2.8.1.1.2.1).
const SEC_INFO_PKT: u16 = 0x0040;
const SEC_ENCRYPT: u16 = 0x0008;

/// Flags of the packet (2.2.1.11.1.1).
mod flag {
    pub(super) const AUTOLOGON: u32 = 0x0000_0008;
    pub(super) const UNICODE: u32 = 0x0000_0010;
    /// Bulk compression, and its kind.
    pub(super) const COMPRESSION: u32 = 0x0000_1e80;
    /// A single application instead of a desktop (RemoteApp), in two versions.
    pub(super) const RAIL: u32 = 0x0200_8000;
    pub(super) const PASSWORD_IS_PIN: u32 = 0x0004_0000;
}

/// Credential for the desktop. The password is wiped on drop.
pub struct Credential {
    /// May be empty.
    pub domain: String,
    pub user: String,
    pub password: Zeroizing<String>,
}

/// Whether a PDU on the I/O channel is the Client Info PDU.
///
/// # Errors
/// [`RdpError::Encrypted`] when RDP's own encryption is used.
pub(super) fn is_info(user_data: &[u8]) -> Result<bool, RdpError> {
    let flags = Reader::new(user_data, "security header").u16()?;
    if flags & SEC_ENCRYPT != 0 {
        return Err(RdpError::Encrypted);
    }
    Ok(flags & SEC_INFO_PKT != 0)
}

/// A new Client Info PDU in place of the client's: with the credential, or with none when the user
/// signs in at the desktop's own screen. The client's description (code page, flags, time zone,
/// performance) is kept; `compression` allows bulk compression.
///
/// # Errors
/// [`RdpError::Malformed`], [`RdpError::CredentialTooLong`], [`RdpError::TooLong`].
pub(super) fn rewrite(
    pdu: &[u8],
    data: SendData,
    credential: Option<&Credential>,
    compression: bool,
) -> Result<Zeroizing<Vec<u8>>, RdpError> {
    let ClientDescription { header, code_page, flags, extra } =
        describe(pdu.get(data.offset..).unwrap_or_default())?;
    let mut flags = flags & !(flag::AUTOLOGON | flag::RAIL | flag::PASSWORD_IS_PIN) | flag::UNICODE;
    if credential.is_some() {
        flags |= flag::AUTOLOGON;
    }
    if !compression {
        flags &= !flag::COMPRESSION;
    }
    let empty = || Ok(Zeroizing::new(Vec::new()));
    let of = |text: Option<&str>, what| text.map_or_else(empty, |text| utf16(text, what));
    let strings = [
        of(credential.map(|c| c.domain.as_str()), "domain")?,
        of(credential.map(|c| c.user.as_str()), "user name")?,
        of(credential.map(|c| c.password.as_str()), "password")?,
        Zeroizing::new(Vec::new()),
        Zeroizing::new(Vec::new()),
    ];
    let length = 12
        + strings.iter().map(|s| s.len() + 4).sum::<usize>()
        + extra.iter().map(|part| part.len()).sum::<usize>();
    let mut out = Zeroizing::new(Vec::with_capacity(mcs::HEADER + 8 + length));
    mcs::write_send_data(&mut out, true, data.initiator, data.channel, length)?;
    out.extend_from_slice(header);
    out.extend_from_slice(code_page);
    out.extend_from_slice(&flags.to_le_bytes());
    for string in &strings {
        // Below 512: the cast is lossless.
        out.extend_from_slice(&(string.len() as u16).to_le_bytes());
    }
    for string in &strings {
        out.extend_from_slice(string);
        out.extend_from_slice(&[0, 0]);
    }
    for part in extra {
        out.extend_from_slice(part);
    }
    Ok(out)
}

/// What is kept of the client's PDU.
struct ClientDescription<'a> {
    header: &'a [u8],
    code_page: &'a [u8],
    flags: u32,
    extra: [&'a [u8]; 3],
}

/// Parses the client's PDU; its strings are skipped.
fn describe(user_data: &[u8]) -> Result<ClientDescription<'_>, RdpError> {
    let mut reader = Reader::new(user_data, "Client Info PDU");
    let header = reader.take(4)?;
    let code_page = reader.take(4)?;
    let flags = reader.u32()?;
    let mut lengths = [0; 5];
    for length in &mut lengths {
        *length = usize::from(reader.u16()?);
    }
    let terminator = if flags & flag::UNICODE != 0 { 2 } else { 1 };
    for length in lengths {
        reader.take(length + terminator)?;
    }
    let extra = without_reconnect_cookie(reader.rest());
    Ok(ClientDescription { header, code_page, flags, extra })
}

/// The extra information (2.2.1.11.1.1.1) without the auto-reconnect cookie, which would sign in
/// another user. Information too short to have one is kept as it is.
fn without_reconnect_cookie(extra: &[u8]) -> [&[u8]; 3] {
    const NONE: &[u8] = &[0, 0];
    let find = || -> Result<(usize, usize), RdpError> {
        let mut reader = Reader::new(extra, "Client Info PDU");
        // Address family; address; folder; time zone, session, performance flags.
        reader.u16()?;
        for _ in 0..2 {
            let length = reader.u16()?;
            reader.take(usize::from(length))?;
        }
        reader.take(172 + 8)?;
        let at = extra.len() - reader.rest().len();
        let length = reader.u16()?;
        reader.take(usize::from(length))?;
        Ok((at, extra.len() - reader.rest().len()))
    };
    match find() {
        Ok((at, after)) => {
            [extra.get(..at).unwrap_or_default(), NONE, extra.get(after..).unwrap_or_default()]
        }
        Err(_) => [extra, &[], &[]],
    }
}

fn utf16(text: &str, what: &'static str) -> Result<Zeroizing<Vec<u8>>, RdpError> {
    let length = text.encode_utf16().count() * 2;
    if length > MAX_STRING {
        return Err(RdpError::CredentialTooLong(what));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    for unit in text.encode_utf16() {
        bytes.extend_from_slice(&unit.to_le_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::rdp::mcs::McsPdu;

    fn client_info(flags: u32, strings: [&[u8]; 5], extra: &[u8]) -> Vec<u8> {
        let terminator: &[u8] = if flags & flag::UNICODE != 0 { &[0, 0] } else { &[0] };
        let mut data = vec![0x40, 0, 0, 0, 9, 4, 0, 0];
        data.extend(flags.to_le_bytes());
        data.extend(strings.iter().flat_map(|s| u16::try_from(s.len()).unwrap().to_le_bytes()));
        data.extend(strings.iter().flat_map(|s| [s, terminator].concat()));
        data.extend(extra);
        let mut pdu = Vec::new();
        mcs::write_send_data(&mut pdu, true, 7, 1003, data.len()).unwrap();
        pdu.extend(data);
        pdu
    }

    fn rewritten(
        pdu: &[u8],
        credential: Option<&Credential>,
        compression: bool,
    ) -> Result<Vec<u8>, RdpError> {
        let Ok(McsPdu::SendDataRequest(data)) = mcs::parse(pdu, pdu.len()) else {
            panic!("no data")
        };
        rewrite(pdu, data, credential, compression).map(|bytes| bytes.to_vec())
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn credential() -> Credential {
        Credential {
            domain: "CORP".into(),
            user: "jürgen".into(),
            password: Zeroizing::new("geheim€".into()),
        }
    }

    #[test]
    fn the_credential_is_the_workspaces_and_nothing_of_the_clients_remains() {
        let from_client = client_info(
            0x004b_0173 | 0x0204_8000,
            [b"d\0", b"n\0o\0", b"x\0", b"s\0", b"w\0"],
            b"extra",
        );
        let expected = client_info(
            0x004b_017b & !0x0204_8000,
            [&wide("CORP"), &wide("jürgen"), &wide("geheim€"), b"", b""],
            b"extra",
        );
        assert_eq!(rewritten(&from_client, Some(&credential()), true), Ok(expected));
    }

    #[test]
    fn without_a_credential_nobody_signs_in() {
        let from_client =
            client_info(0x0000_009b, [b"d\0", b"n\0o\0", b"x\0", b"s\0", b"w\0"], b"extra");
        assert_eq!(
            rewritten(&from_client, None, false),
            Ok(client_info(0x0000_0013, [b""; 5], b"extra"))
        );
        assert_eq!(
            rewritten(&from_client, None, true),
            Ok(client_info(0x0000_0093, [b""; 5], b"extra"))
        );
    }

    #[test]
    fn a_reconnect_cookie_is_removed() {
        let head = [&[2, 0, 4, 0][..], b"a\0\0\0", &[2, 0, 0, 0], &[7; 180]].concat();
        let with = [&head[..], &[28, 0], &[0xcc; 28], b"tail"].concat();
        let without = [&head[..], &[0, 0], b"tail"].concat();
        for (from_client, expected) in [(with, &without), (without.clone(), &without)] {
            assert_eq!(
                rewritten(&client_info(0x10, [b""; 5], &from_client), None, true),
                Ok(client_info(0x10, [b""; 5], expected))
            );
        }
        assert_eq!(
            rewritten(&client_info(0x10, [b""; 5], &head), None, true),
            Ok(client_info(0x10, [b""; 5], &head))
        );
    }

    #[test]
    fn eight_bit_strings_become_unicode() {
        let from_client = client_info(0x3, [b"d", b"no", b"", b"", b""], b"");
        assert_eq!(rewritten(&from_client, None, true), Ok(client_info(0x13, [b""; 5], b"")));
    }

    #[test]
    fn too_long_strings_are_refused() {
        let long = Credential { password: Zeroizing::new("x".repeat(256)), ..credential() };
        let from_client = client_info(0x10, [b""; 5], b"");
        assert_eq!(
            rewritten(&from_client, Some(&long), true),
            Err(RdpError::CredentialTooLong("password"))
        );
        let from_client = client_info(0x10, [b""; 5], &[0; 16000]);
        assert!(rewritten(&from_client, Some(&credential()), true).is_ok());
        let from_client = client_info(0x10, [b""; 5], &[0; 16340]);
        assert!(matches!(
            rewritten(&from_client, Some(&credential()), true),
            Err(RdpError::TooLong { .. })
        ));
        let mut false_length = client_info(0x10, [b""; 5], b"");
        false_length[15 + 12 + 6] = 0xff;
        assert_eq!(
            rewritten(&false_length, None, true),
            Err(RdpError::Malformed("Client Info PDU"))
        );
    }
}
