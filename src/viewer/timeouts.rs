//! Time limits of a stream.

use std::time::Duration;

/// Time limits of a stream.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Opening the connection to the desktop.
    pub dial: Duration,
    /// Each of the two handshakes.
    pub handshake: Duration,
    /// A desktop's verdict after authentication: some ask a person first.
    pub security_result: Duration,
    /// Between pings.
    pub ping_interval: Duration,
    /// Longest wait for a pong.
    pub pong: Duration,
    /// Longest time in which a desktop accepts no input.
    pub desktop_write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            dial: s(10),
            handshake: s(10),
            security_result: s(60),
            ping_interval: s(5),
            pong: s(20),
            desktop_write: s(30),
        }
    }
}
