//! RDCleanPath requests: a browser, which has no TCP, sends the first PDU of RDP and its
//! destination. Devolutions' protocol, in DER; read as far as the gateway uses it.
//!
//! A preconnection blob, which would choose a target before the X.224 PDU, is refused. `proxy_auth`
//! authenticates nobody here and is not read.

use ironrdp_rdcleanpath::{DetectionResult, RDCleanPathPdu};
use thiserror::Error;

/// Longest request that is accepted: an address, a token and an X.224 PDU fit many times.
pub const MAX_REQUEST: usize = 16 * 1024;
/// The DER tag that a request begins with.
const SEQUENCE: u8 = 0x30;
/// Longest foreign destination in an audit entry, in characters.
const MAX_PRINTED: usize = 200;

/// Why a request is invalid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CleanPathError {
    /// Not RDCleanPath.
    #[error("RDCleanPath is spoken here")]
    NotCleanPath,
    /// Longer than [`MAX_REQUEST`].
    #[error("the request is too long")]
    TooLong,
    /// Not a connection request.
    #[error("the request asks for no connection")]
    NoRequest,
    /// It has a preconnection blob, which would choose another target.
    #[error("a preconnection blob is not taken")]
    Preconnection,
}

/// A browser's request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The target it names; must be the session's.
    pub destination: String,
    /// Its X.224 Connection Request, as sent.
    pub connect: Vec<u8>,
}

/// A foreign destination for an audit entry: short, and without control characters.
#[must_use]
pub fn printable_destination(destination: &str) -> String {
    destination.chars().filter(|c| !c.is_control()).take(MAX_PRINTED).collect()
}

/// The request in `pending`, and its length; `None` while it is incomplete.
pub fn read(pending: &[u8]) -> Result<Option<(Request, usize)>, CleanPathError> {
    // With another tag the library could wait for more forever.
    if pending.first().is_some_and(|first| *first != SEQUENCE) {
        return Err(CleanPathError::NotCleanPath);
    }
    let length = match RDCleanPathPdu::detect(pending) {
        DetectionResult::Detected { total_length, .. } if total_length > MAX_REQUEST => {
            return Err(CleanPathError::TooLong);
        }
        DetectionResult::Detected { total_length, .. } => total_length,
        DetectionResult::NotEnoughBytes if pending.len() >= MAX_REQUEST => {
            return Err(CleanPathError::TooLong);
        }
        DetectionResult::NotEnoughBytes => return Ok(None),
        DetectionResult::Failed => return Err(CleanPathError::NotCleanPath),
    };
    let Some(bytes) = pending.get(..length) else { return Ok(None) };
    let pdu = RDCleanPathPdu::from_der(bytes).map_err(|_| CleanPathError::NotCleanPath)?;
    if pdu.preconnection_blob.is_some_and(|blob| !blob.is_empty()) {
        return Err(CleanPathError::Preconnection);
    }
    match (pdu.destination, pdu.x224_connection_pdu) {
        (Some(destination), Some(connect)) => {
            Ok(Some((Request { destination, connect: connect.as_bytes().to_vec() }, length)))
        }
        (Some(_) | None, Some(_) | None) => Err(CleanPathError::NoRequest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pdu(destination: &str, blob: Option<&str>) -> Vec<u8> {
        let request = RDCleanPathPdu::new_request(
            vec![3, 0, 0, 11],
            destination.into(),
            "x".into(),
            blob.map(Into::into),
        )
        .unwrap();
        request.to_der().unwrap()
    }

    #[test]
    fn a_request_is_parsed_when_it_is_complete() {
        let bytes = pdu("session:1", None);
        for n in 0..bytes.len() {
            assert_eq!(read(&bytes[..n]), Ok(None), "{n} bytes");
        }
        let expected = Request { destination: "session:1".into(), connect: vec![3, 0, 0, 11] };
        assert_eq!(read(&bytes), Ok(Some((expected.clone(), bytes.len()))));
        let more = [&bytes[..], b"more"].concat();
        assert_eq!(read(&more), Ok(Some((expected, bytes.len()))));
    }

    #[test]
    fn an_invalid_request_is_refused() {
        assert_eq!(read(b"RFB 003.008\n"), Err(CleanPathError::NotCleanPath));
        assert_eq!(read(&[0x03, 0, 0, 0x13]), Err(CleanPathError::NotCleanPath));
        assert_eq!(read(&pdu("session:1", Some("vm"))), Err(CleanPathError::Preconnection));
        assert_eq!(
            read(&RDCleanPathPdu::new_http_error(500).to_der().unwrap()),
            Err(CleanPathError::NoRequest)
        );
        // An unknown version, and garbage inside a valid frame.
        assert_eq!(read(&[0x30, 5, 0xa0, 3, 2, 1, 1]), Err(CleanPathError::NotCleanPath));
        assert_eq!(
            read(&[0x30, 8, 0xa0, 4, 2, 2, 0x0d, 0x3e, 0xff, 0]),
            Err(CleanPathError::NotCleanPath)
        );
    }

    #[test]
    fn a_false_length_is_refused_at_once() {
        // Claims one mebibyte.
        let head = [0x30, 0x83, 0x10, 0, 0, 0xa0, 4, 2, 2, 0x0d, 0x3e];
        assert_eq!(read(&head), Err(CleanPathError::TooLong));
        assert_eq!(read(&pdu(&"x".repeat(MAX_REQUEST), None)), Err(CleanPathError::TooLong));
    }

    #[test]
    fn a_destination_for_the_audit_log_is_short_and_printable() {
        assert_eq!(printable_destination("10.0.0.1:3389\r\n\u{1b}[0m"), "10.0.0.1:3389[0m");
        assert_eq!(printable_destination(&"ü".repeat(1000)).chars().count(), MAX_PRINTED);
    }
}
