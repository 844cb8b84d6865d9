//! The parts of `src/tunnel` without I/O, and what the targets do with them. They are visible within
//! `crate::tunnel` only, so the bodies of the targets are here.

pub mod connection;
mod hub;
#[path = "../../../src/tunnel/keys.rs"]
#[allow(dead_code)]
pub mod keys;
#[path = "../../../src/tunnel/mtu.rs"]
pub mod mtu;
mod packets;
pub mod segment;
#[path = "../../../src/tunnel/tcp/mod.rs"]
#[allow(dead_code, unused_imports)]
mod tcp;
pub mod transfer;

pub use hub::initiations;
