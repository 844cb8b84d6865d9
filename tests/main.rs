//! All integration tests, in one binary: one link step, one process, shared helpers.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, missing_docs)]

#[macro_use]
mod support;

mod broker;
mod cli;
mod conventions;
mod demo;
mod faults;
mod host;
mod http;
mod interop;
mod product;
mod protocol;
mod seeds;
mod store;
mod tunnel;
mod viewer;
