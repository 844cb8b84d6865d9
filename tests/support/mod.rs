//! What tests share.

#[macro_use]
pub mod db;
pub mod fake_fleet;
