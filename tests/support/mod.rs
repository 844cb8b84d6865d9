//! Helpers that tests share.

#[macro_use]
pub mod db;
pub mod app;
pub mod bytewise;
pub mod client;
pub mod fake_fleet;
pub mod logs;
pub mod vnc;
