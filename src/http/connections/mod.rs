//! The gateway's connections, shared fairly: nobody takes them away from others (docs/adr/0026).
//!
//! | term | meaning |
//! | --- | --- |
//! | client | whose connections count together: an IPv4 address, an IPv6 /64, or a trusted proxy |
//! | stage | what a connection has done: nothing yet, sent a ClientHello, completed its TLS handshake |
//! | slot | what a connection occupies in a stage's pool, while it lives |
//! | idle | without a request in progress; a WebSocket and an event stream are requests in progress |
//! | known client | from which an authenticated request came in the last hour |
//! | reserved | slots that only known clients get |
//!
//! | file | contents |
//! | --- | --- |
//! | [`client`] | client, known clients |
//! | [`pool`], [`occupancy`] | the slots of a stage; which connection is closed for another |
//! | [`connection`] | what others know of a connection: its requests, its client, that it is to close |
//! | [`stages`] | the pools of all stages |
//! | [`lifetime`] | when a connection is closed: idle, old, evicted, shutdown |
//! | [`slot_io`] | a byte stream that holds its slot |
//! | [`frame_scanner`], [`header_block_io`] | HTTP/2 header blocks that stay incomplete |
//! | [`http2`] | limits of HTTP/2 |
//! | [`metrics`] | numbers for `/metrics` |

pub(super) mod client;
pub(super) mod connection;
mod frame_scanner;
pub(super) mod header_block_io;
pub(super) mod http2;
pub(super) mod lifetime;
pub(super) mod metrics;
mod occupancy;
pub(super) mod pool;
pub(super) mod slot_io;
pub(super) mod stages;
