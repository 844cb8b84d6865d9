//! The negotiation before TLS (2.2.1.1, 2.2.1.2): selects the security protocol.
//!
//! The client's request is read and never forwarded: it may carry a user name in a cookie
//! (`mstshash`), a routing token, a correlation id. The gateway sends its own request
//! ([`encode_request`]) and answers the client itself ([`encode_confirm`]).

use super::RdpError;
use super::reader::Reader;

pub use super::negotiation_failure::NegotiationFailure;

/// Longest request or confirm that is accepted: 19 bytes and the client's cookie.
pub const MAX_LENGTH: usize = 1024;

/// TLS, and nothing else (2.2.1.1.1): the user is authenticated by the Client Info PDU.
pub const SSL: u32 = 1;
/// TLS and CredSSP: network level authentication.
pub const HYBRID: u32 = 2;

/// X.224 Connection Request (X.224 section 13.3).
const REQUEST: u8 = 0xe0;
/// X.224 Connection Confirm.
const CONFIRM: u8 = 0xd0;
const TYPE_REQUEST: u8 = 1;
const TYPE_RESPONSE: u8 = 2;
const TYPE_FAILURE: u8 = 3;
/// Flags of the server's response that are forwarded to the client: extended client data. The
/// others announce the graphics pipeline, whose sizes could not be checked, and restricted
/// administration, which needs a credential in the browser.
const RESPONSE_FLAGS: u8 = 0x01;

/// Parses a client's request and returns the protocols it requests (a sum of [`SSL`], [`HYBRID`]
/// and bits that the gateway ignores). Cookie, token and correlation id are skipped.
///
/// # Errors
/// [`RdpError::TooLong`], [`RdpError::Malformed`]; [`RdpError::Protocol`] when it does not request
/// TLS.
pub fn parse_request(pdu: &[u8]) -> Result<u32, RdpError> {
    let rest = variable_part(pdu, REQUEST, "connection request")?;
    let mut reader = Reader::new(rest, "connection request");
    // A cookie or token is a line that ends in CR LF (2.2.1.1); the first byte of a negotiation
    // cannot begin one.
    if rest.first().is_some_and(|&first| first != TYPE_REQUEST) {
        let end = rest.windows(2).position(|two| two == b"\r\n").ok_or(reader.malformed())?;
        reader.take(end + 2)?;
    }
    // A client without a negotiation expects RDP's own encryption.
    if reader.rest().is_empty() {
        return Err(RdpError::Protocol(0));
    }
    reader.expect(&[TYPE_REQUEST])?;
    let _flags = reader.u8()?;
    reader.expect(&[8, 0])?;
    let protocols = reader.u32()?;
    if protocols & SSL == 0 { Err(RdpError::Protocol(protocols)) } else { Ok(protocols) }
}

/// The gateway's own request for these protocols: no cookie, no flags.
#[must_use]
pub fn encode_request(protocols: u32) -> [u8; 19] {
    negotiation(REQUEST, [0, 0], TYPE_REQUEST, 0, protocols)
}

/// The server's selection: [`SSL`] or [`HYBRID`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionConfirm {
    pub selected: u32,
    flags: u8,
}

/// Parses the server's response to [`encode_request`]`(requested)`.
///
/// # Errors
/// [`RdpError::Refused`] with the server's failure code; [`RdpError::NoTls`] when it does not
/// negotiate; [`RdpError::Protocol`] when it selected what was not requested;
/// [`RdpError::TooLong`], [`RdpError::Malformed`].
pub fn parse_confirm(pdu: &[u8], requested: u32) -> Result<ConnectionConfirm, RdpError> {
    let mut reader =
        Reader::new(variable_part(pdu, CONFIRM, "connection confirm")?, "connection confirm");
    // A server without TLS support answers without a negotiation (2.2.1.2).
    if reader.rest().is_empty() {
        return Err(RdpError::NoTls);
    }
    let (kind, flags) = (reader.u8()?, reader.u8()?);
    reader.expect(&[8, 0])?;
    let value = reader.u32()?;
    match kind {
        TYPE_RESPONSE if value == 0 => Err(RdpError::NoTls),
        TYPE_RESPONSE if value.is_power_of_two() && value & requested != 0 => {
            Ok(ConnectionConfirm { selected: value, flags })
        }
        TYPE_RESPONSE => Err(RdpError::Protocol(value)),
        TYPE_FAILURE => Err(RdpError::Refused(NegotiationFailure::from_code(value))),
        _ => Err(reader.malformed()),
    }
}

/// The confirm for the client: TLS, whatever the gateway negotiated with the server.
#[must_use]
pub fn encode_confirm(server: ConnectionConfirm) -> [u8; 19] {
    negotiation(CONFIRM, [0x12, 0x34], TYPE_RESPONSE, server.flags & RESPONSE_FLAGS, SSL)
}

fn negotiation(code: u8, source: [u8; 2], kind: u8, flags: u8, value: u32) -> [u8; 19] {
    let [a, b, c, d] = value.to_le_bytes();
    [3, 0, 0, 19, 14, code, 0, 0, source[0], source[1], 0, kind, flags, 8, 0, a, b, c, d]
}

/// The part after X.224's fixed seven bytes.
fn variable_part<'a>(pdu: &'a [u8], code: u8, name: &'static str) -> Result<&'a [u8], RdpError> {
    if pdu.len() > MAX_LENGTH {
        return Err(RdpError::TooLong { what: name, length: pdu.len(), limit: MAX_LENGTH });
    }
    let mut reader = Reader::new(pdu, name);
    reader.expect(&[3])?;
    let _reserved = reader.u8()?;
    if usize::from(reader.u16_be()?) != pdu.len() {
        return Err(reader.malformed());
    }
    // The length indicator does not count itself. Some servers leave it at 6 with a negotiation
    // behind; TPKT's length decides then.
    let indicator = usize::from(reader.u8()?);
    if indicator < 6 || indicator > reader.rest().len() {
        return Err(reader.malformed());
    }
    reader.expect(&[code])?;
    let _addresses_and_class: [u8; 5] = reader.array()?;
    Ok(reader.rest())
}

#[cfg(test)]
mod tests {
    use super::*;

    const XFREERDP: &str =
        "0300002c27e00000000000436f6f6b69653a206d737473686173683d7264706361700d0a0100080001000000";
    const XRDP: &str = "030000130ed000001234000201080001000000";

    #[test]
    fn a_cookie_is_skipped() {
        assert_eq!(parse_request(&hex::decode(XFREERDP).unwrap()), Ok(SSL));
        assert_eq!(parse_request(&encode_request(SSL | HYBRID)), Ok(SSL | HYBRID));
        assert_eq!(parse_request(&encode_request(HYBRID)), Err(RdpError::Protocol(HYBRID)));
        assert_eq!(
            parse_request(&[3, 0, 0, 11, 6, 0xe0, 0, 0, 0, 0, 0]),
            Err(RdpError::Protocol(0))
        );
    }

    #[test]
    fn the_servers_response_is_parsed() {
        let confirm_of = |kind, value| negotiation(CONFIRM, [0, 0], kind, 0, value);
        let from_xrdp = parse_confirm(&hex::decode(XRDP).unwrap(), SSL).unwrap();
        assert_eq!(from_xrdp.selected, SSL);
        assert_eq!(encode_confirm(from_xrdp).to_vec(), hex::decode(XRDP).unwrap());
        assert_eq!(parse_confirm(&confirm_of(2, HYBRID), SSL | HYBRID).unwrap().selected, HYBRID);
        assert_eq!(parse_confirm(&confirm_of(2, HYBRID), SSL), Err(RdpError::Protocol(HYBRID)));
        assert_eq!(parse_confirm(&confirm_of(2, 3), 3), Err(RdpError::Protocol(3)));
        assert_eq!(parse_confirm(&confirm_of(2, 0), SSL), Err(RdpError::NoTls));
        assert_eq!(
            parse_confirm(&[3, 0, 0, 11, 6, 0xd0, 0, 0, 0, 0, 0], SSL),
            Err(RdpError::NoTls)
        );
        assert_eq!(
            parse_confirm(&confirm_of(3, 5), SSL),
            Err(RdpError::Refused(NegotiationFailure::HybridRequired))
        );
        assert_eq!(
            parse_confirm(&confirm_of(3, 99), SSL),
            Err(RdpError::Refused(NegotiationFailure::Unknown(99)))
        );
    }

    #[test]
    fn the_client_sees_tls_and_harmless_flags_only() {
        let confirm = parse_confirm(&negotiation(CONFIRM, [0, 0], 2, 0xff, HYBRID), 3).unwrap();
        assert_eq!(
            parse_confirm(&encode_confirm(confirm), SSL),
            Ok(ConnectionConfirm { selected: SSL, flags: RESPONSE_FLAGS })
        );
    }

    #[test]
    fn truncated_pdus_are_malformed() {
        let (request, confirm) = (hex::decode(XFREERDP).unwrap(), hex::decode(XRDP).unwrap());
        for n in 0..request.len() {
            assert!(parse_request(&request[..n]).is_err());
        }
        for n in 0..confirm.len() {
            assert!(parse_confirm(&confirm[..n], SSL).is_err());
        }
        assert!(matches!(parse_request(&[3; 2000]), Err(RdpError::TooLong { .. })));
    }
}
