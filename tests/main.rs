//! Every integration test, in one binary: one link, one start-up, and helpers shared without ceremony.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, missing_docs)]

mod cli;
mod host;
mod house;
mod http;
mod product;
mod protocol;
mod seeds;
mod support;
mod tunnel;
mod viewer;
