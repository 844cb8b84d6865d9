//! The hash chain of the audit log: its signed head, and its verification.

use super::action::Action;
use super::entry::{Entry, WithheldEntry};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

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
    /// The log ends before an entry that is known to have been committed.
    #[error(
        "the log ends with entry {last}, but entry {known} was written: it was cut off, or is an older copy"
    )]
    OlderCopy {
        last: i64,
        /// Last entry that is known outside the database.
        known: i64,
    },
    /// The log has another entry where one is known to have been committed.
    #[error("entry {seq} is not the one that was written: the log was replaced")]
    Replaced { seq: i64 },
    /// Another database than the one that is known.
    #[error("it is the log of another database")]
    Foreign,
    /// Found earlier, and not accepted since.
    #[error("it was found altered before: {0}")]
    Latched(String),
}

impl ChainFault {
    /// A head without a valid signature of this gateway.
    #[must_use]
    pub fn unsigned_head() -> Self {
        Self::BadHead { detail: "its signature is not this gateway's".to_owned() }
    }
}

/// Detail of an [`Action::AcceptAuditDamage`] entry: [`Verifier::digest`] of everything before it.
pub const ACCEPTED_DIGEST: &str = "accepted_digest";

/// Verifies a chain entry by entry, in constant memory.
///
/// After a fault the rest may be pushed too: an entry by which an administrator accepted the damage
/// continues the chain when it names exactly what was read before it.
#[derive(Clone, Debug)]
pub struct Verifier {
    seq: i64,
    hash: String,
    withheld: i64,
    /// Of everything read; unknown once an entry was withheld.
    digest: Option<Sha256>,
    /// The first fault that was not accepted.
    fault: Option<ChainFault>,
    accepted_by: Option<i64>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self {
            seq: 0,
            hash: GENESIS.to_owned(),
            withheld: 0,
            digest: Some(Sha256::new()),
            fault: None,
            accepted_by: None,
        }
    }
}

impl Verifier {
    /// Verifies the next entry.
    ///
    /// # Errors
    /// [`ChainFault`] of the first faulty entry.
    pub fn push(&mut self, entry: &Entry) -> Result<(), ChainFault> {
        let computed = entry.computed_hash();
        let is_acceptance = entry.action == Action::AcceptAuditDamage.as_str();
        if computed == entry.hash
            && is_acceptance
            && self.fault.is_some()
            && self.is_named_by(entry)
        {
            self.fault = None;
            self.advance(entry.seq, &entry.hash);
        } else if self.fault.is_none() {
            self.fault = self.check(entry, &computed).err();
        }
        if is_acceptance && self.fault.is_none() {
            self.accepted_by = Some(entry.seq);
        }
        self.read(&format!("{}:{computed}:{}", entry.seq, entry.hash));
        self.outcome()
    }

    /// A stored entry that does not parse, or is not stored in its canonical form.
    ///
    /// # Errors
    /// [`ChainFault`] of the first faulty entry: at the latest, this one was changed.
    pub fn push_unreadable(&mut self, seq: i64, stored: &str) -> Result<(), ChainFault> {
        self.fault.get_or_insert(ChainFault::Changed { seq });
        self.read(stored);
        self.outcome()
    }

    /// Verifies the position and the link of a withheld entry; its content is unknown.
    ///
    /// # Errors
    /// [`ChainFault`] of the first faulty entry.
    pub fn push_withheld(&mut self, entry: &WithheldEntry) -> Result<(), ChainFault> {
        self.digest = None;
        self.withheld += 1;
        if self.fault.is_none() {
            let linked = self
                .check_position(entry.seq)
                .and_then(|()| self.link(entry.seq, &entry.prev_hash, &entry.hash));
            self.fault = linked.err();
        }
        self.outcome()
    }

    fn check(&mut self, entry: &Entry, computed: &str) -> Result<(), ChainFault> {
        self.check_position(entry.seq)?;
        if computed != entry.hash {
            return Err(ChainFault::Changed { seq: entry.seq });
        }
        self.link(entry.seq, &entry.prev_hash, &entry.hash)
    }

    /// Whether an acceptance names exactly what was read before it.
    fn is_named_by(&self, acceptance: &Entry) -> bool {
        let stated = acceptance.details.get(ACCEPTED_DIGEST).and_then(|value| value.as_str());
        self.digest().is_none_or(|digest| stated == Some(digest.as_str()))
    }

    fn read(&mut self, row: &str) {
        if let Some(digest) = &mut self.digest {
            digest.update(row);
            digest.update("\n");
        }
    }

    fn outcome(&self) -> Result<(), ChainFault> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Identifies everything that was read; `None` when entries were withheld.
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        self.digest.as_ref().map(|digest| hex::encode(digest.clone().finalize()))
    }

    /// The last entry by which damage was accepted: nothing before it is proved.
    #[must_use]
    pub fn accepted_by(&self) -> Option<i64> {
        self.accepted_by
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
        self.advance(seq, hash);
        Ok(())
    }

    fn advance(&mut self, seq: i64, hash: &str) {
        self.seq = seq;
        hash.clone_into(&mut self.hash);
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
    /// [`ChainFault`] of an entry; or when entries are missing at the end, follow the head, or end in another hash.
    pub fn finish(&self, head: &Head) -> Result<(), ChainFault> {
        self.outcome()?;
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
