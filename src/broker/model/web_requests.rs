//! Requests to web applications.

use crate::domain::web_app::{RequestOutcome, StatusFilter};

/// Requests of one kind that policy forbids: the last one, and their number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedRequest {
    /// `method`, `path`, `upload`, `download`, `size` or `origin`.
    pub kind: &'static str,
    /// Method of the last one.
    pub method: String,
    /// Path of the last one, without its query.
    pub path: String,
    /// Bytes kept from passing, as far as their number was declared.
    pub bytes: u64,
    pub count: u64,
}

#[derive(Clone, Debug, Default)]
pub struct RequestQuery {
    /// At most 32 bytes.
    pub method: Option<String>,
    /// Text contained in the path, at most 512 bytes.
    pub path: Option<String>,
    pub status: Option<StatusFilter>,
    pub outcome: Option<RequestOutcome>,
    /// Cursor of the previous page.
    pub cursor: Option<String>,
    /// 1 to 500; default 100.
    pub limit: Option<u32>,
    /// Only requests after this one.
    pub after: Option<i64>,
}
