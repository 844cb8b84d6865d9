//! The audit log: entries chained by hash, so that a change is found.
//!
//! An [`Entry`] holds the hash of the previous entry; its own hash is SHA-256 over its canonical
//! JSON without `hash` (RFC 8785: members sorted, no white space; values here are only objects,
//! arrays, strings, integers, booleans and null). Changing, removing or reordering entries breaks
//! the chain at a sequence number that [`Verifier`] reports; a truncated log is found by comparing
//! with the signed head.

mod action;
mod chain;
mod entry;
pub mod export;
mod reason;

pub use action::Action;
pub use chain::{ACCEPTED_DIGEST, ChainFault, GENESIS, Head, Verifier};
pub use entry::{
    Actor, ActorFilter, Draft, Entry, EntryTarget, ExportedEntry, Outcome, WithheldEntry,
    canonical_json,
};
pub use reason::Reason;

#[cfg(test)]
mod tests;
