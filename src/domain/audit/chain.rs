//! The hash chain of the audit log: its signed head, and its verification.

use super::entry::{Entry, WithheldEntry};
use serde::{Deserialize, Serialize};

/// `prev_hash` of the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The end of the chain, stored beside the entries and signed, so that truncation and a replaced
/// head are found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Position of the last entry; 0 for an empty log.
    pub seq: i64,
    /// Hash of the last entry; [`GENESIS`] for an empty log.
    pub hash: String,
    /// Ed25519 signature over `"portcullis-audit-head:" seq ":" hash`, standard base64.
    pub signature: String,
}

impl Head {
    #[must_use]
    pub fn signed_text(seq: i64, hash: &str) -> String {
        format!("portcullis-audit-head:{seq}:{hash}")
    }
}

/// A fault of the chain, and its position.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChainFault {
    /// The content of the entry does not match its hash.
    #[error("entry {seq} was changed: its content does not match its hash")]
    Changed { seq: i64 },
    #[error("entry {seq} is missing")]
    Missing { seq: i64 },
    /// An entry is at the wrong position.
    #[error("entry {seq} is out of order: entry {expected} belongs there")]
    Reordered { seq: i64, expected: i64 },
    /// `prev_hash` is not the hash of the previous entry.
    #[error("entry {seq} does not follow entry {}: the one before it was changed or replaced", seq - 1)]
    BrokenLink { seq: i64 },
    /// Entries at the end are missing.
    #[error("the log was cut off after entry {last}: it had {expected} entries")]
    Truncated {
        last: i64,
        /// Last entry according to the head.
        expected: i64,
    },
    /// There are entries after the signed head.
    #[error("entry {seq} follows the signed head: it was added from outside")]
    BeyondHead { seq: i64 },
    /// The signature of the head is wrong, or the last hash differs from the head's.
    #[error("the head of the log does not match: {detail}")]
    BadHead { detail: String },
}

/// Verifies a chain entry by entry, in constant memory.
#[derive(Clone, Debug)]
pub struct Verifier {
    seq: i64,
    hash: String,
    withheld: i64,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned(), withheld: 0 }
    }
}

impl Verifier {
    /// Verifies the next entry.
    ///
    /// # Errors
    /// [`ChainFault`] of the first faulty entry.
    pub fn push(&mut self, entry: &Entry) -> Result<(), ChainFault> {
        self.check_position(entry.seq)?;
        if entry.computed_hash() != entry.hash {
            return Err(ChainFault::Changed { seq: entry.seq });
        }
        self.link(entry.seq, &entry.prev_hash, &entry.hash)
    }

    /// Verifies the position and the link of a withheld entry; its content is unknown.
    ///
    /// # Errors
    /// [`ChainFault`] of the first faulty entry.
    pub fn push_withheld(&mut self, entry: &WithheldEntry) -> Result<(), ChainFault> {
        self.check_position(entry.seq)?;
        self.link(entry.seq, &entry.prev_hash, &entry.hash)?;
        self.withheld += 1;
        Ok(())
    }

    fn check_position(&self, seq: i64) -> Result<(), ChainFault> {
        let expected = self.seq + 1;
        match seq.cmp(&expected) {
            std::cmp::Ordering::Greater => Err(ChainFault::Missing { seq: expected }),
            std::cmp::Ordering::Less => Err(ChainFault::Reordered { seq, expected }),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    fn link(&mut self, seq: i64, prev_hash: &str, hash: &str) -> Result<(), ChainFault> {
        if prev_hash != self.hash {
            return Err(ChainFault::BrokenLink { seq });
        }
        self.seq = seq;
        hash.clone_into(&mut self.hash);
        Ok(())
    }

    /// Verified entries whose content was withheld.
    #[must_use]
    pub fn withheld(&self) -> i64 {
        self.withheld
    }

    #[must_use]
    pub fn entries(&self) -> i64 {
        self.seq
    }

    /// Hash of the last verified entry.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Compares the end with the head, whose signature the caller has verified.
    ///
    /// # Errors
    /// [`ChainFault`] when entries are missing at the end, follow the head, or end in another hash.
    pub fn finish(&self, head: &Head) -> Result<(), ChainFault> {
        match self.seq.cmp(&head.seq) {
            std::cmp::Ordering::Less => {
                Err(ChainFault::Truncated { last: self.seq, expected: head.seq })
            }
            std::cmp::Ordering::Greater => Err(ChainFault::BeyondHead { seq: head.seq + 1 }),
            std::cmp::Ordering::Equal if self.hash != head.hash => {
                Err(ChainFault::BadHead { detail: "its hash is not the last entry's".to_owned() })
            }
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}
