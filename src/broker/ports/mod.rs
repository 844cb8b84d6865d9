//! What the broker asks of others, as traits.

pub mod host_fleet;
