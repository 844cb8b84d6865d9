//! Single fields and pages of listings.

use crate::broker::model::Page;
use crate::domain::{Error, Result};
use std::str::FromStr;

/// Maximum page size of any listing.
const PAGE_MAX: u32 = 500;

/// A trimmed line of `1..=max` characters without control characters.
pub(super) fn single_line(what: &str, text: &str, max: usize) -> Result<String> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > max || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{what} must be 1 to {max} characters on one line.")));
    }
    Ok(text.to_owned())
}

pub(in crate::broker) fn name(text: &str) -> Result<String> {
    single_line("A name", text, 80)
}

pub(in crate::broker) fn version(text: &str) -> Result<String> {
    single_line("A version", text, 64)
}

/// Checks the shape of an e-mail address, to catch typing mistakes (RFC 5321 section 4.5.3.1.3
/// bounds its length to 254).
pub(in crate::broker) fn email(text: &str) -> Result<String> {
    let text = text.trim();
    let shape = text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && local.len() <= 64
            && !domain.is_empty()
            && !domain.contains('@')
            && domain
                .split('.')
                .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
            && domain.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '.')
    });
    if !shape || text.len() > 254 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::invalid(
            "An e-mail address looks like name@example.com and has at most 254 bytes.",
        ));
    }
    Ok(text.to_owned())
}

/// Assigns a new value and records the field's name if it differs.
pub(super) fn set_if_changed<T: PartialEq>(
    slot: &mut T,
    value: Option<T>,
    what: &'static str,
    names: &mut Vec<&'static str>,
) {
    if let Some(value) = value.filter(|v| v != slot) {
        *slot = value;
        names.push(what);
    }
}

/// An API's input as a use case takes it. Called once the caller is authorized: nobody else is told
/// whether it is valid.
pub(in crate::broker) fn convert<T>(given: impl TryInto<T, Error: Into<Error>>) -> Result<T> {
    given.try_into().map_err(Into::into)
}

pub(in crate::broker) fn page_limit(asked: Option<u32>, default: u32) -> Result<usize> {
    match asked.unwrap_or(default) {
        n @ 1..=PAGE_MAX => Ok(n as usize),
        _ => Err(Error::invalid(format!("limit must be 1 to {PAGE_MAX}."))),
    }
}

/// Cuts a listing of up to `limit + 1` rows to a page, with the cursor of its last item.
pub(in crate::broker) fn page<T>(
    mut items: Vec<T>,
    limit: usize,
    cursor: impl Fn(&T) -> String,
) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| more).map(cursor);
    Page { items, next_cursor }
}

/// The cursor of a listing by time and id.
pub(in crate::broker) fn parse_cursor<A: FromStr, B: FromStr>(text: &str) -> Result<(A, B)> {
    let parts = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(unknown_cursor)
}

/// The cursor of a listing by sequence number.
pub(in crate::broker) fn parse_seq(text: &str) -> Result<i64> {
    text.parse().map_err(|_| unknown_cursor())
}

fn unknown_cursor() -> Error {
    Error::invalid("cursor must be one that a former page gave.")
}
