//! An exported log: one line of JSON for each entry, oldest first, and a last line, the [`ExportTrailer`],
//! with the signed head and the key that verifies it. It can be checked anywhere, by anybody who
//! was told the key.

use super::{ChainFault, Entry, Head, Verifier, canonical_json};
use serde::{Deserialize, Serialize};

/// Longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// The last line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportTrailer {
    /// The end of the chain.
    pub head: Head,
    /// The gateway's audit key: 32 bytes, standard base64.
    pub public_key: String,
}

/// What is wrong with an exported log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExportFault {
    /// A line is neither entry nor seal, or holds more than an entry does.
    #[error("line {line} is not an entry of the log")]
    Unreadable {
        /// The line, from 1.
        line: u64,
    },
    /// The chain is broken.
    #[error("line {line}: {fault}")]
    Chain {
        /// The line, from 1.
        line: u64,
        /// Where and how.
        fault: ChainFault,
    },
    /// There is something after the seal.
    #[error("line {line} follows the end of the log")]
    AfterTrailer {
        /// The line, from 1.
        line: u64,
    },
    /// The last line is missing.
    #[error("the export was cut off: its last line, with the signed head, is missing")]
    MissingTrailer,
    /// It was signed by another key than the one expected.
    #[error("the export is signed by another key than the one given")]
    KeyMismatch,
    /// The signature is wrong.
    #[error("the signature of the head does not verify")]
    BadSignature,
}

/// Reads an exported log line by line, in constant memory.
#[derive(Clone, Debug, Default)]
pub struct ExportReader {
    chain: Verifier,
    line: u64,
    trailer: Option<ExportTrailer>,
}

impl ExportReader {
    /// Takes the next line, without its line end. Empty lines count as lines and say nothing.
    ///
    /// # Errors
    /// [`ExportFault`] naming the line.
    pub fn push(&mut self, text: &str) -> Result<(), ExportFault> {
        self.line += 1;
        let line = self.line;
        if text.trim().is_empty() {
            return Ok(());
        }
        if self.trailer.is_some() {
            return Err(ExportFault::AfterTrailer { line });
        }
        if text.len() > MAX_LINE_BYTES {
            return Err(ExportFault::Unreadable { line });
        }
        if let Ok(seal) = serde_json::from_str::<ExportTrailer>(text) {
            self.trailer = Some(seal);
            return Ok(());
        }
        let entry: Entry =
            serde_json::from_str(text).map_err(|_| ExportFault::Unreadable { line })?;
        // The hash covers what an entry holds; a line that holds more, or spells it otherwise, says
        // something that nobody vouched for.
        let said = serde_json::from_str(text).map(|value| canonical_json(&value));
        let meant = serde_json::to_value(&entry).map(|value| canonical_json(&value));
        if said.ok() != meant.ok() {
            return Err(ExportFault::Unreadable { line });
        }
        self.chain.push(&entry).map_err(|fault| ExportFault::Chain { line, fault })
    }

    /// Entries read so far.
    #[must_use]
    pub fn entries(&self) -> i64 {
        self.chain.entries()
    }

    /// Compares the end with the seal. `verify` says whether a key (as in [`ExportTrailer::public_key`])
    /// signed a text; `expected_key`, when given, is the only key that counts: without it the file
    /// merely agrees with itself.
    ///
    /// # Errors
    /// [`ExportFault`] saying what does not fit.
    pub fn finish(
        self,
        expected_key: Option<&str>,
        verify: impl Fn(&str, &str, &str) -> bool,
    ) -> Result<ExportTrailer, ExportFault> {
        let seal = self.trailer.ok_or(ExportFault::MissingTrailer)?;
        if expected_key.is_some_and(|key| key != seal.public_key) {
            return Err(ExportFault::KeyMismatch);
        }
        if !verify(
            &seal.public_key,
            &Head::signed_text(seal.head.seq, &seal.head.hash),
            &seal.head.signature,
        ) {
            return Err(ExportFault::BadSignature);
        }
        self.chain
            .finish(&seal.head)
            .map_err(|fault| ExportFault::Chain { line: self.line, fault })?;
        Ok(seal)
    }
}
