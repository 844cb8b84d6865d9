//! What a stream needs to know and to report about its upstream.

pub mod certificates;
pub mod credentials;
pub(in crate::broker) mod ephemeral_credentials;
pub mod stream_events;
pub(in crate::broker) mod upstream_context;
pub mod web_requests;
