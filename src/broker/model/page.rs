//! A page of a listing.

#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Start of the next page; opaque to clients.
    pub next_cursor: Option<String>,
}
