//! The reverse proxy of web applications: a browser of raw octets or hyper's on one side, real
//! servers on loopback on the other, the real broker between.

mod answers;
mod bulk;
mod faults;
mod log;
mod requests;
pub mod rig;
mod tls;
mod websocket;
