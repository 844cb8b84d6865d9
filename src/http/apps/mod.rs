//! Origins of web applications. Each session of a workspace of type `html5` has an origin of its
//! own, `https://{session id}.{apps domain}`, so that browsers separate its cookies, storage, service
//! workers and processes from all others.
//!
//! | file | contents |
//! | --- | --- |
//! | [`settings`] | the domain, its port and certificate |
//! | [`acceptor`] | one TCP port, two HTTP servers, chosen by the server name in the TLS ClientHello |
//! | [`connection`] | an HTTP/1.1 or HTTP/2 connection: limits, shutdown, revocation |
//! | [`header_timer`] | the timer of HTTP/1.1 request heads |
//! | [`host_header`] | which session a request's host names |
//! | [`context`] | what all connections share, and what handlers need of a request |
//! | [`dispatch`] | chooses the handler of a request: gateway page, refusal, or application |
//! | [`entry`] | exchanges a ticket for a cookie of the origin |
//! | [`table`] | the open applications and the cookies that grant access to them |
//! | [`fetch_metadata`] | which requests of other origins' pages are allowed |
//! | [`pages`] | pages for users who have no access |
//!
//! Requests are dispatched by the host they name, never by the server name in the TLS ClientHello:
//! HTTP/2 connections are shared among the hosts of one certificate (RFC 9113 section 9.1.1), and a
//! client may send any server name. A request for a host of the other server is answered 421.
//!
//! Paths below `/.portcullis/` of an application's origin belong to the gateway and never reach the
//! application.

pub(super) mod acceptor;
mod connection;
pub(super) mod context;
mod dispatch;
mod entry;
pub mod fetch_metadata;
mod header_timer;
pub mod host_header;
mod pages;
pub(super) mod settings;
mod table;

pub use settings::{AppsSettings, common_parent};
