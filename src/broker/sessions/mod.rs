//! Sessions: launch, streams, listing, extension, end.

pub mod extend;
pub mod launch;
pub(in crate::broker) mod launch_attempt;
mod launch_decision;
pub mod list;
pub mod open_stream;
pub(in crate::broker) mod view;
