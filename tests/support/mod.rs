//! Helpers that tests share.

pub mod app;
pub mod bytewise;
pub mod logs;
pub mod vnc;
