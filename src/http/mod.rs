//! The HTTP server: APIs, pages, and the origins of web applications.
//!
//! | file | contents |
//! | --- | --- |
//! | [`api`] | the APIs, each with its routes, DTOs, error body, authentication and OpenAPI document |
//! | [`routes`] | which APIs and pages are served |
//! | [`pages`] | the built web UI, embedded in the binary |
//! | [`apps`] | origins of web applications |
//! | [`cookie_header`] | cookies of a request by their exact name |
//! | [`head_limit`], [`head_refusal_io`] | requests whose head is too large: 431 with an explanation |
//! | [`connections`] | connections of all clients: limits, which one is closed for another |
//! | [`http2_gateway`], [`actix_exchange`] | HTTP/2 on the gateway's own names |
//! | [`browser_io`], [`h2_streams`] | a browser that does not read: its connection, its HTTP/2 streams |
//! | [`body_refusal`] | HTTP/1.1 requests whose body is not valid |
//! | [`client_presence`] | ends work whose client has left |
//! | [`extract`] | extractors: request metadata, caller, body, query, path |
//! | [`error`] | errors of handlers, and the status of each kind |
//! | [`json_error`], [`json_path`] | what is wrong with a JSON body, in words of the API |
//! | [`forwarded`] | the client's address behind trusted proxies |
//! | [`origin`] | `Origin` and `Host` checks |
//! | [`observe`] | middleware of every request: id, span, access log, metrics, headers, panics |
//! | [`security_headers`] | Content-Security-Policy and related headers |
//! | [`rate_limit`] | rate limits per address, event streams per user |
//! | [`metrics`] | `/metrics` |
//! | [`server`], [`application`], [`server_limits`] | listeners, TLS, timeouts, graceful shutdown |
//! | [`state`], [`settings`], [`hub_status`] | what handlers share |
//!
//! Terms. **Request source** ([`crate::domain::user::RequestSource`]): request id, address, user
//! agent, as audited. **Browser origin**: scheme, host and port of a page (RFC 6454). **Cookie
//! mode**: a client that keeps its tokens in cookies.

mod actix_exchange;
pub mod api;
pub mod application;
pub mod apps;
mod body_refusal;
mod browser_io;
pub mod client_presence;
mod connections;
pub mod cookie_header;
pub mod error;
pub mod extract;
mod forwarded;
mod h2_streams;
pub mod head_limit;
mod head_refusal_io;
mod http2_gateway;
pub mod hub_status;
mod json_error;
mod json_path;
pub mod metrics;
pub mod observe;
pub mod origin;
pub mod pages;
pub mod rate_limit;
mod request_head_scanner;
pub mod routes;
pub mod security_headers;
pub mod server;
pub mod server_limits;
pub mod settings;
pub mod state;
