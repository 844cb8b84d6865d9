//! Helpers that tests share.


pub mod bytewise;

pub mod vnc;
