//! Streams: a browser on one side, a desktop on the other, and everything that can go wrong with
//! either.

mod attach;
mod books;
mod desktop;
mod flow;
mod html5;
pub mod ledger;
mod policy;
mod rdp;
mod revocation;
pub mod rig;
mod third_party_servers;
mod trust;
mod websocket;
mod xvnc;
