//! Answers of HTTP/1.1 servers (RFC 9112), read strictly: whatever two readers might frame
//! differently is no answer.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`head`] | the status line and the fields of an answer |
//! | [`framing`] | where its body ends, and whether another answer may follow on the connection |
//! | [`chunks`] | the chunked transfer coding, both ways |
//!
//! - *head*: everything before the body (RFC 9112 section 2.1).
//! - *framing*: how a body's end is told (section 6.3).
//! - *trailers*: fields behind the last chunk (section 7.1.2).
//!
//! Lines of a head may end in a bare LF, as section 2.2 allows and old servers do: it frames
//! nothing. In chunks it is refused.

pub mod chunked;
pub mod framing;
pub mod head;

pub use chunked::{Chunk, ChunkedDecoder};
pub use framing::{Framing, is_persistent, response_framing};
pub use head::{Head, HeadDecoder};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Most fields of a head or of trailers.
pub const FIELDS_MAX: usize = 256;
/// Longest head, in bytes.
pub const HEAD_MAX: usize = 128 * 1024;

/// Why something is no answer of HTTP/1.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Its status line or a field is none.
    #[error("the head is no HTTP/1.1")]
    Head,
    /// It has more fields than [`FIELDS_MAX`], or is longer than [`HEAD_MAX`].
    #[error("the head is too large")]
    TooLarge,
    /// It says its length twice, in two ways, or not in a way that is understood.
    #[error("the body's framing is not clear")]
    Framing,
    /// A chunk is none.
    #[error("the body is not chunked as it should be")]
    Chunk,
}

/// The fields of `head`, whose values share its memory.
fn header_map(head: &Bytes, parsed: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    // Room for what a proxy adds.
    let mut fields = HeaderMap::with_capacity(parsed.len() + 4);
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Head)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Malformed::Head)?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// What the parser of heads says, as we do.
fn from_httparse(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed::TooLarge,
        _ => Malformed::Head,
    }
}

/// Whether a list of tokens has this one (RFC 9110 section 5.6.1).
fn has_token(fields: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = fields.get_all(name).iter();
    values
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|word| word.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests;
