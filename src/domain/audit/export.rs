//! An exported log: one line of JSON per entry, oldest first, and a last line, the
//! [`ExportTrailer`], with the signed head and the public key that verifies it. An export can be
//! verified offline by anybody who knows the key.

use super::chain::{ChainFault, Head, Verifier};
use super::entry::{ExportedEntry, canonical_json};
use serde::{Deserialize, Serialize};

/// Longest accepted line, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportTrailer {
    pub head: Head,
    /// The gateway's audit key: 32 bytes, standard base64.
    pub public_key: String,
}

/// A fault of an exported log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExportFault {
    /// A line is neither an entry nor the trailer, or contains unknown members.
    #[error("line {line} is not an entry of the log")]
    Unreadable {
        /// The line, from 1.
        line: u64,
    },
    #[error("line {line}: {fault}")]
    Chain {
        /// The line, from 1.
        line: u64,
        fault: ChainFault,
    },
    /// There is a line after the trailer.
    #[error("line {line} follows the end of the log")]
    AfterTrailer {
        /// The line, from 1.
        line: u64,
    },
    #[error("the export was cut off: its last line, with the signed head, is missing")]
    MissingTrailer,
    /// The export is signed by another key than the expected one.
    #[error("the export is signed by another key than the one given")]
    KeyMismatch,
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
    /// Verifies the next line, without its line end. Empty lines are counted and otherwise ignored.
    ///
    /// # Errors
    /// [`ExportFault`] with the line.
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
        let line_entry: ExportedEntry =
            serde_json::from_str(text).map_err(|_| ExportFault::Unreadable { line })?;
        // The hash covers the members of an entry; a line with additional members, or with the same
        // values spelled differently, contains something that the hash does not cover.
        let actual = serde_json::from_str(text).map(|value| canonical_json(&value));
        let canonical = serde_json::to_value(&line_entry).map(|value| canonical_json(&value));
        if actual.ok() != canonical.ok() {
            return Err(ExportFault::Unreadable { line });
        }
        let pushed = match &line_entry {
            ExportedEntry::Entry(entry) => self.chain.push(entry),
            ExportedEntry::Withheld(entry) => self.chain.push_withheld(entry),
        };
        pushed.map_err(|fault| ExportFault::Chain { line, fault })
    }

    #[must_use]
    pub fn entries(&self) -> i64 {
        self.chain.entries()
    }

    /// Compares the end with the trailer. `verify` says whether a key (as in
    /// [`ExportTrailer::public_key`]) signed a text. `expected_key`, if given, is the only accepted
    /// key: without it the file is only consistent with itself.
    ///
    /// # Errors
    /// [`ExportFault`] with the first difference.
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
