//! The chunked transfer coding (RFC 9112 section 7.1): an incremental decoder, and encoding.
//!
//! ```text
//! Size ─┬─────────> SizeEnd ─> Data ─> DataCr ─> DataLf ─> Size
//!       ├─ Padding ────┤  └─ last chunk ─> Trailers ─> Done
//!       └─ Extension ──┘
//! ```

use super::fields::{FIELDS_MAX, HEAD_MAX, Malformed, from_httparse, header_map, write_field};
use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;

/// Most digits of a chunk size: 64 bits.
const DIGITS_MAX: u8 = 16;
/// Most octets of chunk extensions in a body. They are ignored (section 7.1.1).
const EXTENSIONS_MAX: usize = 16 * 1024;
/// Ends a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A part of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Chunk {
    /// Never empty.
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In the size, after so many digits.
    Size(u8),
    /// Blanks after the size.
    Padding,
    Extension,
    /// Before the LF after a size.
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Decodes a chunked body.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Octets of the current chunk that are left; while its size is parsed, the size so far.
    remaining: u64,
    extension_octets: usize,
    /// Octets of trailers already searched for their end.
    scanned: usize,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self { state: State::Size(0), remaining: 0, extension_octets: 0, scanned: 0 }
    }
}

impl ChunkedDecoder {
    /// Takes the next part from the front of `arrived`; `None`: more has to arrive first.
    ///
    /// # Errors
    /// [`Malformed::Chunk`] or [`Malformed::TooLarge`]; the decoder must not be used again.
    pub fn decode(&mut self, arrived: &mut BytesMut) -> Result<Option<Chunk>, Malformed> {
        loop {
            match self.state {
                State::Done => return Ok(Some(Chunk::End)),
                State::Trailers => return self.trailers(arrived),
                State::Data => {
                    if arrived.is_empty() {
                        return Ok(None);
                    }
                    let length =
                        usize::try_from(self.remaining).unwrap_or(usize::MAX).min(arrived.len());
                    self.remaining -= length as u64;
                    if self.remaining == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Some(Chunk::Data(arrived.split_to(length).freeze())));
                }
                state => {
                    let Some(octet) = arrived.first().copied() else { return Ok(None) };
                    arrived.advance(1);
                    self.state = self.next_state(state, octet)?;
                }
            }
        }
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The state after an octet outside of chunk data.
    fn next_state(&mut self, state: State, octet: u8) -> Result<State, Malformed> {
        match (state, octet) {
            (State::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if digits < DIGITS_MAX =>
            {
                let digit = char::from(octet).to_digit(16).unwrap_or_default();
                self.remaining = (self.remaining << 4) | u64::from(digit);
                Ok(State::Size(digits + 1))
            }
            (State::Size(1..) | State::Padding, b' ' | b'\t') => Ok(State::Padding),
            (State::Size(1..) | State::Padding, b';') => Ok(State::Extension),
            (State::Size(1..) | State::Padding | State::Extension, b'\r') => Ok(State::SizeEnd),
            (State::Extension, octet)
                if octet != b'\n' && self.extension_octets < EXTENSIONS_MAX =>
            {
                self.extension_octets += 1;
                Ok(State::Extension)
            }
            (State::SizeEnd, b'\n') if self.remaining == 0 => Ok(State::Trailers),
            (State::SizeEnd, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size(0)),
            _ => Err(Malformed::Chunk),
        }
    }

    /// The trailer section: fields and an empty line.
    fn trailers(&mut self, arrived: &mut BytesMut) -> Result<Option<Chunk>, Malformed> {
        let end = match &arrived[..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => 2,
            _ => {
                let from = self.scanned.saturating_sub(3);
                let Some(at) = arrived
                    .get(from..)
                    .and_then(|rest| rest.windows(4).position(|w| w == b"\r\n\r\n"))
                else {
                    self.scanned = arrived.len();
                    return if arrived.len() > HEAD_MAX {
                        Err(Malformed::TooLarge)
                    } else {
                        Ok(None)
                    };
                };
                from + at + 4
            }
        };
        let octets = arrived.split_to(end).freeze();
        self.state = State::Done;
        if end == 2 {
            return Ok(Some(Chunk::End));
        }
        let mut headers = [httparse::EMPTY_HEADER; FIELDS_MAX];
        match httparse::parse_headers(&octets, &mut headers).map_err(from_httparse)? {
            httparse::Status::Complete((length, parsed)) if length == octets.len() => {
                Ok(Some(Chunk::Trailers(header_map(&octets, parsed)?)))
            }
            httparse::Status::Complete(_) | httparse::Status::Partial => Err(Malformed::Chunk),
        }
    }
}

/// The size line of a chunk of `bytes`, which must not be 0: that would end the body.
#[must_use]
pub fn size_line(bytes: usize) -> String {
    format!("{bytes:x}\r\n")
}

/// Follows the data of each chunk.
pub const CRLF: &[u8] = b"\r\n";

/// The last chunk with trailers.
#[must_use]
pub fn last_chunk(trailers: &HeaderMap) -> Vec<u8> {
    let mut out = b"0\r\n".to_vec();
    for (name, value) in trailers {
        write_field(&mut out, name, value);
    }
    out.extend_from_slice(CRLF);
    out
}
