//! What a browser, which has no TCP, asks for by RDCleanPath: the first PDU of RDP, and to whom it
//! is to go. Devolutions' protocol, in DER; read here as far as the gateway heeds it.
//!
//! What a browser may *not* do here: choose a target by text before the X.224 PDU. Its `proxy_auth`
//! proves nothing to us; nothing of it is read.

use ironrdp_rdcleanpath::{DetectionResult, RDCleanPathPdu};
use thiserror::Error;

/// Longest request taken: an address, a token and an X.224 PDU fit many times.
pub const MAX_REQUEST: usize = 16 * 1024;
/// The DER tag that a request begins with.
const SEQUENCE: u8 = 0x30;
/// How much of a foreign destination is written down.
const MAX_PRINTED: usize = 200;

/// Why a request is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CleanPathError {
    /// Something else than RDCleanPath.
    #[error("RDCleanPath is spoken here")]
    NotCleanPath,
    /// It says that it is longer than [`MAX_REQUEST`].
    #[error("the request is too long")]
    TooLong,
    /// It does not ask for a connection.
    #[error("the request asks for no connection")]
    NoRequest,
    /// It asks for what is not done for browsers: text before the X.224 PDU would choose another
    /// target.
    #[error("a preconnection blob is not taken")]
    Preconnection,
}

/// What a browser asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The target it names; must be the session's ([`destination`]).
    pub destination: String,
    /// Its X.224 Connection Request, as sent.
    pub connect: Vec<u8>,
}

/// A foreign destination as it is written down: short, and without control characters.
#[must_use]
pub fn printable_destination(destination: &str) -> String {
    destination.chars().filter(|c| !c.is_control()).take(MAX_PRINTED).collect()
}

/// The request in `pending`, and what it measured; `None` while there is more to come.
///
/// # Errors
/// [`CleanPathError`].
pub fn read(pending: &[u8]) -> Result<Option<(Request, usize)>, CleanPathError> {
    // Another tag could make the library wait for more for ever.
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
    fn a_request_is_read_when_all_of_it_is_there() {
        let bytes = pdu("session:1", None);
        for n in 0..bytes.len() {
            assert_eq!(read(&bytes[..n]), Ok(None), "{n} bytes");
        }
        let wanted = Request { destination: "session:1".into(), connect: vec![3, 0, 0, 11] };
        assert_eq!(read(&bytes), Ok(Some((wanted.clone(), bytes.len()))));
        let more = [&bytes[..], b"more"].concat();
        assert_eq!(read(&more), Ok(Some((wanted, bytes.len()))));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(read(b"RFB 003.008\n"), Err(CleanPathError::NotCleanPath));
        assert_eq!(read(&[0x03, 0, 0, 0x13]), Err(CleanPathError::NotCleanPath));
        assert_eq!(read(&pdu("session:1", Some("vm"))), Err(CleanPathError::Preconnection));
        assert_eq!(
            read(&RDCleanPathPdu::new_http_error(500).to_der().unwrap()),
            Err(CleanPathError::NoRequest)
        );
        // A version that is not ours, and garbage inside a frame that is.
        assert_eq!(read(&[0x30, 5, 0xa0, 3, 2, 1, 1]), Err(CleanPathError::NotCleanPath));
        assert_eq!(
            read(&[0x30, 8, 0xa0, 4, 2, 2, 0x0d, 0x3e, 0xff, 0]),
            Err(CleanPathError::NotCleanPath)
        );
    }

    #[test]
    fn a_length_that_is_a_lie_is_refused_at_once() {
        // One mebibyte, it says.
        let head = [0x30, 0x83, 0x10, 0, 0, 0xa0, 4, 2, 2, 0x0d, 0x3e];
        assert_eq!(read(&head), Err(CleanPathError::TooLong));
        assert_eq!(read(&pdu(&"x".repeat(MAX_REQUEST), None)), Err(CleanPathError::TooLong));
    }

    #[test]
    fn what_is_written_down_of_a_destination_is_short_and_plain() {
        assert_eq!(printable_destination("10.0.0.1:3389\r\n\u{1b}[0m"), "10.0.0.1:3389[0m");
        assert_eq!(printable_destination(&"ü".repeat(1000)).chars().count(), MAX_PRINTED);
    }
}
