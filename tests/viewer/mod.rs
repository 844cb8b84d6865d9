//! Streams: a browser on one side, a desktop on the other, and everything that can go wrong with
//! either.

mod attach;
mod books;
mod cut;
mod desktop;
mod flow;
mod foreign;
mod html5;
pub mod ledger;
mod policy;
mod rdp;
pub mod rig;
mod trust;
mod websocket;
mod xvnc;
