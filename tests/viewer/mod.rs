//! Streams between a browser and a desktop, and the failures of either side.

mod attach;
mod desktop;
mod direct_target;
mod flow;
pub mod harness;
mod html5;
mod input;
mod leases;
mod policy;
mod rdp;
pub mod recording_audit;
mod revocation;
mod stream_audit;
mod third_party_servers;
mod tigervnc_accounts;
mod trust;
mod websocket;
mod websocket_gateway;
mod xvnc;
