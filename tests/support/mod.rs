//! What tests share.

#[macro_use]
pub mod db;
