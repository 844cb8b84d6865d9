//! What stands between the store and a log that was altered: the key of its head, the witness, and
//! the latch that stops all writing.

use super::witness::{KnownHead, Witness};
use crate::domain::audit::{ChainFault, Head};
use crate::domain::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Signs the end of the audit chain. The vault implements it, which the store may not use.
pub trait HeadSigner: Send + Sync + 'static {
    fn sign(&self, text: &str) -> String;
    fn verify(&self, text: &str, signature: &str) -> bool;
}

pub(crate) struct LogGuard {
    signer: Arc<dyn HeadSigner>,
    pub(super) witness: Witness,
    /// Opened to examine or to accept what does not verify: nothing is latched.
    is_examining: bool,
}

impl LogGuard {
    pub(super) fn new(signer: Arc<dyn HeadSigner>, witness: Witness, is_examining: bool) -> Self {
        Self { signer, witness, is_examining }
    }

    /// Signs the head of entries that were verified or written in the same transaction.
    pub(super) fn sign(&self, seq: i64, hash: &str) -> String {
        self.signer.sign(&Head::signed_text(seq, hash))
    }

    pub(super) fn check_head(&self, head: &Head) -> Result<(), ChainFault> {
        let is_ours = self.signer.verify(&Head::signed_text(head.seq, &head.hash), &head.signature);
        if is_ours { Ok(()) } else { Err(ChainFault::unsigned_head()) }
    }

    /// An entry that was certainly committed.
    pub(super) fn known(&self) -> KnownHead {
        self.witness.known()
    }

    /// Runs a transaction unless the log is known to be altered; when the transaction finds that it
    /// is, it is remembered. Both until an administrator accepts it, in whichever process.
    pub(super) fn run<T>(&self, mut transaction: impl FnMut() -> Result<T>) -> Result<T> {
        if self.is_examining {
            return transaction();
        }
        if self.witness.tampered().is_some() {
            self.witness.reload();
        }
        if let Some(fault) = self.witness.tampered() {
            return Err(Error::tampered(fault));
        }
        let acceptances = self.witness.acceptances();
        let mut outcome = transaction();
        if is_tampered(&outcome) {
            // Another process may have accepted what this one did not expect.
            self.witness.reload();
            if self.witness.acceptances() > acceptances {
                outcome = transaction();
            }
        }
        if let Err(error) = &outcome
            && error.kind == ErrorKind::Tampered
        {
            self.witness.latch(&fault_text(error));
        }
        outcome
    }
}

fn is_tampered<T>(outcome: &Result<T>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind == ErrorKind::Tampered)
}

/// What did not verify.
pub(super) fn fault_text(error: &Error) -> String {
    error.source.as_ref().map_or_else(|| error.message.clone(), ToString::to_string)
}
