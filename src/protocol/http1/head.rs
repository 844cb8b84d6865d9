//! The status line and the fields of a response.
//!
//! A line that has no field name before its colon, or no colon, is left out, as browsers do: some
//! servers write such lines. If it looks like one that frames the body, the head is invalid, since
//! server and gateway could disagree on where the response ends.

use super::fields::{FIELDS_MAX, HEAD_MAX, Malformed, from_httparse, header_map};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use std::mem::MaybeUninit;

/// Start of every response.
const VERSION_PREFIX: &[u8] = b"HTTP/1.";
/// Fields on which the length of a body, or whether the connection goes on, depends.
const FRAMING_FIELDS: [&str; 3] = ["content-length", "transfer-encoding", "connection"];

/// The head of a response.
#[derive(Clone, Debug)]
pub struct Head {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// From 100 to 999.
    pub status: StatusCode,
    pub fields: HeaderMap,
}

/// Decodes heads incrementally.
#[derive(Clone, Default, Debug)]
pub struct HeadDecoder {
    /// Octets already searched for the end of the head.
    scanned: usize,
}

impl HeadDecoder {
    /// Takes a head from the front of `arrived`; `None`: it is not complete.
    ///
    /// # Errors
    /// [`Malformed`] as soon as it is known to be invalid or too large.
    pub fn decode(&mut self, arrived: &mut BytesMut) -> Result<Option<Head>, Malformed> {
        let prefix = arrived.len().min(VERSION_PREFIX.len());
        if arrived.get(..prefix) != VERSION_PREFIX.get(..prefix) {
            return Err(Malformed::Head);
        }
        let Some(end) = self.find_end(arrived) else {
            return if arrived.len() > HEAD_MAX { Err(Malformed::TooLarge) } else { Ok(None) };
        };
        if end > HEAD_MAX {
            return Err(Malformed::TooLarge);
        }
        self.scanned = 0;
        let octets = arrived.split_to(end).freeze();
        let head = match parse(&octets) {
            Err(httparse::Error::HeaderName) => {
                let kept = without_invalid_lines(&octets).ok_or(Malformed::Head)?;
                parse(&kept)
            }
            parsed => parsed,
        };
        head.map_err(from_httparse)?.map(Some)
    }

    /// The end of the head, after its empty line. Octets are searched once.
    fn find_end(&mut self, arrived: &[u8]) -> Option<usize> {
        // The end may span octets that were searched before.
        let mut from = self.scanned.saturating_sub(2);
        while let Some(at) = arrived.get(from..)?.iter().position(|b| *b == b'\n') {
            let behind = from + at + 1;
            match arrived.get(behind..)? {
                [b'\n', ..] => return Some(behind + 1),
                [b'\r', b'\n', ..] => return Some(behind + 2),
                _ => from = behind,
            }
        }
        self.scanned = arrived.len();
        None
    }
}

/// Parses a whole head, with its empty line.
fn parse(octets: &Bytes) -> Result<Result<Head, Malformed>, httparse::Error> {
    let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        octets,
        &mut headers,
    )?;
    if parsed != httparse::Status::Complete(octets.len()) {
        return Ok(Err(Malformed::Head));
    }
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let Some(status) = response.code.and_then(|code| StatusCode::from_u16(code).ok()) else {
        return Ok(Err(Malformed::Head));
    };
    Ok(header_map(octets, response.headers).map(|fields| Head { version, status, fields }))
}

/// The head without lines that name no field. `None`: such a line may frame the body, or continues
/// the one before (obs-fold, RFC 9112 section 5.2).
fn without_invalid_lines(octets: &Bytes) -> Option<Bytes> {
    let mut kept = BytesMut::with_capacity(octets.len());
    for (i, line) in octets.split_inclusive(|b| *b == b'\n').enumerate() {
        let text = line.trim_ascii_end();
        let name = text.split(|b| *b == b':').next().unwrap_or_default();
        if i == 0 || text.is_empty() || (name.len() < text.len() && is_token(name)) {
            kept.extend_from_slice(line);
            continue;
        }
        let frames_body = FRAMING_FIELDS.iter().any(|field| {
            name.windows(field.len()).any(|window| window.eq_ignore_ascii_case(field.as_bytes()))
        });
        if frames_body || text.starts_with(b" ") || text.starts_with(b"\t") {
            return None;
        }
    }
    Some(kept.freeze())
}

/// A field name (RFC 9110 section 5.6.2).
fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}
