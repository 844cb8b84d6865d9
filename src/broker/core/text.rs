//! Text, numbers and hashes as the audit log and the store keep them.

use crate::auth::opaque;
use crate::domain::secret::SecretString;
use serde_json::Value;
use std::time::Duration;

/// The longest prefix of `text` of at most `max` bytes that ends at a character boundary.
pub(in crate::broker) fn truncate_utf8(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// A count as a JSON integer that every reader represents exactly (RFC 7493 section 2.2).
pub(in crate::broker) fn json_int(n: u64) -> Value {
    Value::from(n.min((1 << 53) - 1))
}

/// Foreign text on one line, without control characters, of bounded length.
pub(in crate::broker) fn sanitize_line(text: &str) -> String {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect();
    truncate_utf8(line.trim(), TEXT_MAX).to_owned()
}

/// Maximum length of a stored certificate subject and of other foreign text, in bytes.
const TEXT_MAX: usize = 200;

pub(in crate::broker) fn millis_u64(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Maximum length of an opaque token, in bytes.
const TOKEN_MAX: usize = 256;

/// Hash of a presented opaque token; an oversized one matches nothing.
pub(in crate::broker) fn token_hash(token: &SecretString) -> String {
    if token.expose().len() > TOKEN_MAX { String::new() } else { opaque::hash(token.expose()) }
}
