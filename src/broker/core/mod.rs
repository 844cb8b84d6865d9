//! What every use case builds on; depends on no noun.

pub(in crate::broker) mod answers;
pub(in crate::broker) mod audit_entry;
pub mod changes;
pub(in crate::broker) mod hash_queue;
pub(in crate::broker) mod host_failures;
pub mod input_counter;
pub mod log_search;
pub(in crate::broker) mod refusal_limit;
pub(in crate::broker) mod sealing;
pub(in crate::broker) mod session_tracker;
pub mod settings;
pub(in crate::broker) mod signing_keys;
pub mod stream_registry;
pub(in crate::broker) mod task;
pub(in crate::broker) mod teardown;
pub(in crate::broker) mod text;
pub(in crate::broker) mod throttles;
pub(in crate::broker) mod unit_of_work;
pub(in crate::broker) mod validate;
