//! The composition root: the only module that sees all others, and the command line.

pub mod fleet;
