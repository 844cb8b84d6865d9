//! Sessions: launch, streams, listing, end.

pub(in crate::broker) mod launch;
pub(in crate::broker) mod list;
mod open_stream;
