//! Requests to web applications.

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

#[derive(Clone, Copy, Debug, Default)]
pub struct RequestQuery<'a> {
    pub method: Option<&'a str>,
    /// Text contained in the path, 1 to 512 bytes.
    pub path: Option<&'a str>,
    /// A status (`404`), a class of them (`4xx`), or `none`.
    pub status: Option<&'a str>,
    /// Name of a [`RequestEnd`].
    pub ended: Option<&'a str>,
    /// Cursor of the previous page.
    pub cursor: Option<&'a str>,
    /// 1 to 500; default 100.
    pub limit: Option<u32>,
}
