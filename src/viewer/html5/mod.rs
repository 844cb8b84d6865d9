//! The reverse proxy of web applications: from the browser's HTTP/1.1 or HTTP/2 to the
//! application's HTTP/1.1, through the session's tunnel.
//!
//! | file | what it answers |
//! | --- | --- |
//! | `app` | an [`App`]: what all its requests share, and its end |
//! | `serve` | one request, from the browser's head to the answer's |
//! | `head`, `names`, `cookies` | heads as they go on: pure |
//! | `allow` | which requests may pass: pure |
//! | `exchange` | sent once, or once again where that is safe |
//! | `pool` | which connections to the application there are |
//! | `connection` | one of them: a request sent, its answer's head awaited; how long that may take |
//! | `sending`, `received` | the bodies of a request and of its answer, at the application's end |
//! | [`stall`] | a peer that takes nothing |
//! | [`body`] | bodies as they pass, counted and cut |
//! | `ws`, `pump` | WebSockets: the handshake, and messages both ways |
//! | `keeper`, `record` | what watches over it and writes down its requests |
//! | `told` | what the application is told of the user, and how the gateway signs in |
//! | [`page`], [`fault`] | what the gateway answers in the application's place |
//!
//! - *application*: the HTTP server of the session, reached by [`super::Dial`] alone.
//! - *place*: under which origin the browser meets it. Each session has an origin of its own, so
//!   that browsers keep them apart.
//! - *up*, *down*: browser to application, application to browser.
//!
//! Bodies are not looked into, copied, or kept: what one side does not take, the other is not asked
//! for. Messages have one framing, made anew from what was read, so that nothing can be smuggled
//! within them.

mod app;
pub mod body;
mod connection;
mod cookies;
pub mod error;
mod exchange;
mod head;
mod identity;
mod origin_map;
pub mod page;
mod policy;
mod pool;
mod request_log;
mod response_body;
mod serve;
mod supervisor;
mod upload;
pub mod write_timeout;
mod ws;
mod ws_relay;

pub use app::App;
pub use body::{Body, BoxError};
pub use error::ProxyError;

use std::time::Duration;

/// Under which origin the browser meets the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppOrigin {
    /// The session's own origin, such as `https://2f1c….apps.example.com:8443`.
    pub origin: String,
    /// The viewer page's origin, which may frame it.
    pub gateway_origin: String,
    /// Browsers take the two for different sites, so cookies in the frame must say that they are
    /// for that.
    pub cross_site: bool,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Reaching the application, and its TLS handshake.
    pub dial: Duration,
    /// From the last byte of the request that moved to the head of the answer. How long its body
    /// takes is the application's matter: events and long polls live.
    pub head: Duration,
    /// A side that takes nothing that is written to it for this long is gone.
    pub stall: Duration,
    /// Requests under way and requests not yet written down, together, at least one: the next wait.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { dial: s(10), head: s(60), stall: s(30), requests: 4096 }
    }
}

/// The longest start of `text` of at most `max` bytes that ends between characters.
fn truncate_utf8(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
