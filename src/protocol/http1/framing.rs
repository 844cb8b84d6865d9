//! Where an answer's body ends (RFC 9112 section 6.3), and whether another answer may follow it
//! (section 9.3).

use super::head::Head;
use super::{Malformed, has_token};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};

/// How the end of a body is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// So many bytes; none: there is no body.
    Length(u64),
    /// The last chunk.
    Chunked,
    /// The connection's end.
    UntilClose,
}

/// The framing of an answer. `to_head`: the request was HEAD, whose answers have no body.
///
/// # Errors
/// [`Malformed::Framing`] when it is told in two ways, twice, or in a way that is not understood:
/// what follows might be taken for another answer.
pub fn response_framing(head: &Head, to_head: bool) -> Result<Framing, Malformed> {
    let length = content_length(&head.fields)?;
    let chunked = is_chunked(head)?;
    if chunked && length.is_some() {
        return Err(Malformed::Framing);
    }
    let bodiless = to_head
        || head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match (bodiless, chunked, length) {
        (true, ..) => Framing::Length(0),
        (false, true, _) => Framing::Chunked,
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::UntilClose,
    })
}

/// Chunked, once, is the one coding that is understood, and no part of HTTP/1.0 (section 6.1).
fn is_chunked(head: &Head) -> Result<bool, Malformed> {
    let mut codings = head.fields.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None)
            if coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && head.version == Version::HTTP_11 =>
        {
            Ok(true)
        }
        (Some(_), _) => Err(Malformed::Framing),
    }
}

/// `Content-Length`; said several times it must be the same (RFC 9110 section 8.6).
fn content_length(fields: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for word in fields
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
    {
        let word = word.trim_ascii();
        // `parse` would take a plus sign.
        let digits =
            std::str::from_utf8(word).ok().filter(|word| word.bytes().all(|b| b.is_ascii_digit()));
        let said: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or(Malformed::Framing)?;
        if length.is_some_and(|known| known != said) {
            return Err(Malformed::Framing);
        }
        length = Some(said);
    }
    Ok(length)
}

/// Whether the connection may carry another answer behind this one.
#[must_use]
pub fn is_persistent(head: &Head, framing: Framing) -> bool {
    let persists = match head.version {
        Version::HTTP_10 => has_token(&head.fields, &CONNECTION, "keep-alive"),
        _ => true,
    };
    persists && framing != Framing::UntilClose && !has_token(&head.fields, &CONNECTION, "close")
}
