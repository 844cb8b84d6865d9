//! Streams: a browser on one side, a desktop on the other, and everything that can go wrong with either.

mod attach;
mod books;
mod cut;
mod flow;
pub mod ledger;
pub mod rdp;
mod rig;
mod trust;
mod websocket;
mod xvnc;
