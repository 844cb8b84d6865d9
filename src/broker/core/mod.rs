//! What every use case builds on; knows no noun.

pub(in crate::broker) mod answers;
pub(in crate::broker) mod audit_entry;
pub mod stream_registry;
pub(in crate::broker) mod teardown;
pub(in crate::broker) mod text;
pub(in crate::broker) mod unit_of_work;
pub(in crate::broker) mod validate;
