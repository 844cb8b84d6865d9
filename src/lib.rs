//! Portcullis: a secure remote-workspace gateway.
//!
//! Two flows, each one way. Control: `http` -> `broker` -> `store`. Stream: `http` (upgrade) ->
//! `viewer` -> `protocol` -> `tunnel` -> host agent. They meet only in `broker`. See
//! ARCHITECTURE.md for what each module may use; a test holds the imports to that table.

// Futures are moved by value and live as long as their connection, so rarely taken branches are
// boxed to keep them small.
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

/// See docs/adr/0022.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
