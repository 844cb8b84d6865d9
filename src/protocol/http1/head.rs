//! The status line and the fields of a response.

use super::fields::{FIELDS_MAX, HEAD_MAX, Malformed, from_httparse, header_map};
use bytes::BytesMut;
use http::{HeaderMap, StatusCode, Version};
use std::mem::MaybeUninit;

/// Start of every response.
const VERSION_PREFIX: &[u8] = b"HTTP/1.";

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
        let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            &octets,
            &mut headers,
        );
        match parsed.map_err(from_httparse)? {
            httparse::Status::Complete(length) if length == octets.len() => {}
            httparse::Status::Complete(_) | httparse::Status::Partial => {
                return Err(Malformed::Head);
            }
        }
        let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        let status = response
            .code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or(Malformed::Head)?;
        Ok(Some(Head { version, status, fields: header_map(&octets, response.headers)? }))
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
