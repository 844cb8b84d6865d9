//! Limits of the HTTP server: threads, connections, timeouts.

use std::time::Duration;

/// Limits of the HTTP server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Worker threads.
    pub workers: usize,
    /// Connections at once, over all workers. One of eight is only for clients from which somebody
    /// has signed in.
    pub connections: usize,
    /// Connections of one address (IPv6: a /64) at once.
    pub connections_per_address: usize,
    /// A connection without a request is closed after this.
    pub keep_alive: Duration,
    /// An HTTP/2 connection takes no further requests after this.
    pub connection_age: Duration,
    /// Time limit for reading a request head.
    pub head_timeout: Duration,
    /// Time limit for a ClientHello, and for the rest of a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time limit for closing a connection.
    pub disconnect_timeout: Duration,
    /// A browser that reads nothing of a web application's response for this long is disconnected.
    pub write_stall_timeout: Duration,
    /// Graceful shutdown waits this long for requests and streams.
    pub drain_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16),
            connections: 8192,
            connections_per_address: 2048,
            keep_alive: Duration::from_secs(75),
            // The default of common proxies.
            connection_age: Duration::from_secs(3600),
            head_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            disconnect_timeout: Duration::from_secs(2),
            // The default of common proxies; a paused video requests the rest again.
            write_stall_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(3),
        }
    }
}
