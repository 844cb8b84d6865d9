//! The status line and the fields of an answer.

use super::{FIELDS_MAX, HEAD_MAX, Malformed, from_httparse, header_map};
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use std::mem::MaybeUninit;

/// How every answer begins.
const VERSION_PREFIX: &[u8] = b"HTTP/1.";

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// From 100 to 999.
    pub status: StatusCode,
    /// As they came.
    pub fields: HeaderMap,
}

/// Reads heads from octets as they come.
#[derive(Clone, Default, Debug)]
pub struct HeadDecoder {
    /// So many octets were looked through for the end of the head, which is not among them.
    scanned: usize,
}

impl HeadDecoder {
    /// Takes a head from the front of what has arrived; `None`: it is not whole.
    ///
    /// # Errors
    /// [`Malformed`] as soon as it is seen to be no head, or too large a one.
    pub fn decode(&mut self, arrived: &mut BytesMut) -> Result<Option<Head>, Malformed> {
        let begins = arrived.len().min(VERSION_PREFIX.len());
        if arrived.get(..begins) != VERSION_PREFIX.get(..begins) {
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
        let mut places = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut answer = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut answer,
            &octets,
            &mut places,
        );
        match parsed.map_err(from_httparse)? {
            httparse::Status::Complete(length) if length == octets.len() => {}
            httparse::Status::Complete(_) | httparse::Status::Partial => {
                return Err(Malformed::Head);
            }
        }
        let version = if answer.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        let status =
            answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed::Head)?;
        Ok(Some(Head { version, status, fields: header_map(&octets, answer.headers)? }))
    }

    /// Where the head ends: behind its empty line. What was looked through is not looked through
    /// again.
    fn find_end(&mut self, arrived: &[u8]) -> Option<usize> {
        // An end may have begun in what was seen.
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

/// Writes a field line (RFC 9112 section 5). Its types have no line breaks in them.
pub fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        out.extend_from_slice(piece);
    }
}
