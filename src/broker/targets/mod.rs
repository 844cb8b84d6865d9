//! What a stream needs to know and to report about its upstream.

pub mod certificates;
pub mod credentials;
pub mod web_requests;
