//! Portcullis: a secure remote-workspace gateway.
//!
//! Two flows, each one way. Control: `http` -> `broker` -> `store`. Stream: `http` (upgrade) ->
//! `viewer` -> `protocol` -> `tunnel` -> host agent. They meet only in `broker`. See
//! ARCHITECTURE.md for what each module may use; a test holds the imports to that table.

// What a future has room for is moved with it, and kept by every connection: what seldom happens is
// boxed.
#![warn(clippy::large_futures)]

pub mod app;
pub mod auth;
pub mod broker;
pub mod config;
pub mod domain;
pub mod files;
pub mod fleet;
pub mod host;
pub mod http;
pub mod protocol;
pub mod store;
pub mod telemetry;
pub mod tunnel;
pub mod viewer;
