//! The reverse proxy for web applications, between raw TCP or hyper clients and servers on
//! loopback, with the real broker.

mod bulk;
mod faults;
pub mod harness;
mod log;
mod requests;
mod responses;
mod tls;
mod websocket;
