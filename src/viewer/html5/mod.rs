//! Reverse proxy for web applications: HTTP/1.1 or HTTP/2 from the browser, HTTP/1.1 to the
//! application, through the session's tunnel.
//!
//! | file | contents |
//! | --- | --- |
//! | `app` | [`App`], the handle of one opened application |
//! | `context` | what its requests share: grant, lifecycle, upstream client, rewriter, request log |
//! | `serve` | the steps of one request |
//! | `request` | what a step needs of its request, and how a request can fail |
//! | `exchange` | sends a request once, or twice where that is safe |
//! | `pool`, `connection` | connections to the application; one request and its response head |
//! | `revocation` | ends the waits of all connections at the end of the session |
//! | `request_body`, `upload` | request bodies: from the browser, to the application |
//! | `response_body`, `forwarded_body` | response bodies: from the application, to the browser |
//! | `head`, `url_fields`, `origin_map`, `cookies` | rewriting of request and response heads (no I/O) |
//! | `policy` | which requests and responses are allowed (no I/O) |
//! | `ws`, `ws_relay` | WebSockets: both handshakes, then messages in both directions |
//! | `supervisor` | ends the application, and writes the request log |
//! | `request_log`, `progress` | the request log and the counters of one request |
//! | `identity` | identity and sign-in headers sent to the application |
//! | [`page`], [`error`] | responses that the gateway generates itself |
//! | [`write_timeout`] | fails writes that the peer does not accept in time |
//!
//! *upstream*: the application's HTTP server, dialled by [`super::Dial`] alone. *up*, *down*:
//! browser to application, application to browser.
//!
//! Bodies are neither inspected, copied nor buffered: reading stops while the other side does not
//! accept. Message framing is generated anew from the parsed message, so that a request or response
//! cannot be smuggled inside another.

mod app;
pub mod body;
mod connection;
mod context;
mod cookies;
pub mod error;
mod exchange;
mod forwarded_body;
mod grant;
mod head;
mod identity;
mod lifecycle;
mod limits;
mod origin_map;
pub mod page;
mod policy;
mod pool;
mod progress;
mod request;
mod request_body;
mod request_log;
mod response_body;
mod revocation;
mod serve;
mod supervisor;
mod upload;
mod url_fields;
pub mod write_timeout;
mod ws;
mod ws_relay;

pub use app::App;
pub use body::{Body, BoxError};
pub use error::ProxyError;
pub use limits::Limits;
pub use origin_map::AppOrigin;
