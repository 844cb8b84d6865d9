//! Header fields, limits and errors that heads and trailers share.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Most fields of a head or of trailers.
pub const FIELDS_MAX: usize = 256;
/// Longest head, in bytes.
pub const HEAD_MAX: usize = 128 * 1024;

/// Why a response is not valid HTTP/1.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// The status line or a field is invalid.
    #[error("the head is no HTTP/1.1")]
    Head,
    /// More fields than [`FIELDS_MAX`], or a head longer than [`HEAD_MAX`].
    #[error("the head is too large")]
    TooLarge,
    /// The length is given twice, in two ways, or in an unknown way.
    #[error("the body's framing is not clear")]
    Framing,
    /// The chunked coding is invalid.
    #[error("the body is not chunked as it should be")]
    Chunk,
}

/// The parsed fields of `head`. Their values share its memory.
pub(super) fn header_map(
    head: &Bytes,
    parsed: &[httparse::Header<'_>],
) -> Result<HeaderMap, Malformed> {
    // Capacity for the fields that a proxy adds.
    let mut fields = HeaderMap::with_capacity(parsed.len() + 4);
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Head)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Malformed::Head)?;
        fields.append(name, value);
    }
    Ok(fields)
}

pub(super) fn from_httparse(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed::TooLarge,
        _ => Malformed::Head,
    }
}

/// Whether a list of tokens contains this one (RFC 9110 section 5.6.1).
pub(super) fn has_token(fields: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = fields.get_all(name).iter();
    values
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Writes a field line (RFC 9112 section 5). Neither type can hold a line break.
pub fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        out.extend_from_slice(piece);
    }
}
