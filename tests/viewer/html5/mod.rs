//! The reverse proxy of web applications: a browser of raw octets or hyper's on one side, real
//! servers on loopback on the other, the real broker between.

mod answers;
mod bulk;
mod faults;
pub mod harness;
mod log;
mod requests;
mod tls;
mod websocket;
