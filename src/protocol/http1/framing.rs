//! Where a response body ends (RFC 9112 section 6.3), and whether the connection is persistent
//! (section 9.3).

use super::fields::{Malformed, has_token};
use super::head::Head;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};

/// How the end of a body is determined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// In bytes; 0: there is no body.
    Length(u64),
    Chunked,
    UntilClose,
}

/// The framing of a response. `to_head`: it responds to HEAD and has no body.
///
/// # Errors
/// [`Malformed::Framing`] when the length is given in two ways, twice, or in an unknown way: the rest
/// of the body could be parsed as another response.
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

/// Only `chunked`, once, is accepted, and only in HTTP/1.1 (section 6.1).
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

/// `Content-Length`; repeated values must be equal (RFC 9110 section 8.6).
fn content_length(fields: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for item in fields
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
    {
        let item = item.trim_ascii();
        // `parse` would accept a plus sign.
        let digits =
            std::str::from_utf8(item).ok().filter(|item| item.bytes().all(|b| b.is_ascii_digit()));
        let value: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or(Malformed::Framing)?;
        if length.is_some_and(|known| known != value) {
            return Err(Malformed::Framing);
        }
        length = Some(value);
    }
    Ok(length)
}

/// Whether the connection may carry another response after this one.
#[must_use]
pub fn is_persistent(head: &Head, framing: Framing) -> bool {
    let is_persistent = match head.version {
        Version::HTTP_10 => has_token(&head.fields, &CONNECTION, "keep-alive"),
        _ => true,
    };
    is_persistent
        && framing != Framing::UntilClose
        && !has_token(&head.fields, &CONNECTION, "close")
}
