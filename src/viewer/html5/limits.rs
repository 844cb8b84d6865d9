//! Time and concurrency limits of an application.

use std::time::Duration;

/// Time and concurrency limits of an application.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Dialling the application, and its TLS handshake.
    pub dial: Duration,
    /// From the last progress of the request to the response head. The response body has no limit,
    /// because event streams and long polls stay open.
    pub head: Duration,
    /// A peer that accepts no written byte for this long is disconnected.
    pub stall: Duration,
    /// Requests in progress plus requests not written to the log yet, at least 1; further requests
    /// wait.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { dial: s(10), head: s(60), stall: s(30), requests: 4096 }
    }
}
