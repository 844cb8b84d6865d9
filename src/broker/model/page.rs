//! A page of a listing, and of a search.

use crate::domain::Timestamp;

#[derive(Clone, Debug, Default)]
pub struct PageQuery {
    /// 1 to 500; default 100.
    pub limit: Option<u32>,
    /// Cursor of the previous page.
    pub cursor: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Start of the next page; opaque to clients.
    pub next_cursor: Option<String>,
}

/// What a search of a log found before its time was over.
#[derive(Clone, Debug)]
pub struct SearchPage<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Where the search goes on; `None`: the log is over.
    pub next_cursor: Option<String>,
    /// The time was over before the page was full: what is older is not searched yet.
    pub searched_to: Option<Timestamp>,
    /// The newest entry of the log, whether it fits or not, when the search began: what is added
    /// later comes after it. 0: the log is empty.
    pub newest_seq: i64,
}
