//! Sessions: launch, streams, listing, extension, end.

pub mod extend;
pub mod launch;
mod launch_decision;
pub mod list;
pub mod open_stream;
pub(in crate::broker) mod view;
