//! Sessions: launch, streams, listing, end.

pub mod launch;
mod launch_decision;
pub mod list;
pub mod open_stream;
pub(in crate::broker) mod view;
