//! Attaches a browser to its desktop: lease, handshakes, relay, revocation.
//!
//! | file | contents |
//! | --- | --- |
//! | `serve` | serves a stream over a WebSocket, and records its end |
//! | [`mod@attach`] | runs one stream until it ends or its authorization is lost |
//! | `vnc` | an RFB stream: dial, authenticate, greet, relay |
//! | [`rdp`] | an RDP stream: read the request, dial, TLS, authenticate, answer, relay |
//! | [`html5`] | the reverse proxy of web applications |
//! | `stream_context` | what a protocol is given to run a stream |
//! | `dial` | the port to the desktops |
//! | `handshake` | drives the pure RFB handshakes over streams |
//! | [`trust`] | TLS to an upstream, and the check of its certificate |
//! | `anonymous` | TLS to an upstream that has no certificate |
//! | `relay` | bytes in both directions, with backpressure |
//! | [`stream_filter`] | what of a direction's bytes may pass |
//! | `counted_input` | counts a browser's input beside the filter of its bytes |
//! | `injected_replies` | queue of a filter's replies to the side it reads from |
//! | [`stream_audit`] | audit entries of a stream |
//! | [`probe`] | readiness probe of a web application, at launch |
//! | `ping` | WebSocket keepalive and round-trip time |
//! | [`stream_end`] | why a stream ended: close code, close reason, reason code of the audit log |
//! | [`browser`] | the relay's interface to a browser |
//! | [`websocket`] | a browser over WebSocket |
//! | `outbound_frames` | queue of WebSocket frames to a browser |
//! | [`socket_shutdown`] | closes the connection of a browser that does not read |
//!
//! - *grant*: authorization for one stream, with the lease that carries its target
//!   ([`crate::broker::core::stream_registry::StreamGrant`]).
//! - *desktop*: the upstream of the session, reached by [`Dial`] through the session's tunnel.
//! - *up*, *down*: browser to desktop, desktop to browser.

mod anonymous;
pub mod attach;
pub mod browser;
mod counted_input;
mod dial;
mod handshake;
pub mod html5;
mod injected_replies;
mod outbound_frames;
mod ping;
pub mod probe;
pub mod rdp;
mod relay;
mod serve;
pub mod socket_shutdown;
pub mod stream_audit;
mod stream_context;
pub mod stream_end;
pub mod stream_filter;
mod timeouts;
pub mod trust;
mod vnc;
pub mod websocket;

pub use dial::{Dial, Duplex};
pub use serve::{Context, EndedStream, serve, serve_with_shutdown, stream};
pub use timeouts::Timeouts;
