//! A page of a listing.

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
