//! Streams: a browser on one side, a desktop on the other, and everything that can go wrong with
//! either.

mod attach;
mod desktop;
mod flow;
pub mod harness;
mod html5;
mod policy;
mod rdp;
pub mod recording_audit;
mod revocation;
mod stream_audit;
mod third_party_servers;
mod trust;
mod websocket;
mod xvnc;
