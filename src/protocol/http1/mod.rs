//! Responses of HTTP/1.1 servers (RFC 9112), parsed strictly: a response that two parsers may frame
//! differently is rejected.
//!
//! | file | contents |
//! | --- | --- |
//! | [`head`] | status line and fields |
//! | [`framing`] | where the body ends, and whether the connection is persistent |
//! | [`chunked`] | the chunked transfer coding, in both directions |
//! | [`fields`] | fields, limits and errors that these share |
//!
//! Lines of a head may end in a bare LF, as section 2.2 permits and old servers send, because that
//! does not affect framing. In the chunked coding a bare LF is rejected.

pub mod chunked;
pub mod fields;
pub mod framing;
pub mod head;

pub use chunked::{Chunk, ChunkedDecoder};
pub use fields::{FIELDS_MAX, HEAD_MAX, Malformed, write_field};
pub use framing::{Framing, is_persistent, response_framing};
pub use head::{Head, HeadDecoder};

#[cfg(test)]
mod tests;
