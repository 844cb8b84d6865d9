//! Verification of the whole audit log, page by page, against its signed head and its witness; and
//! the acceptance of a log that does not verify.

use super::database::{Gate, Store};
use super::search::WINDOW;
use super::tables::audit::AuditRow;
use super::tables::audit_head::{Damage, check_known};
use super::transaction::Tx;
use super::witness::KnownHead;
use crate::domain::audit::{ACCEPTED_DIGEST, ChainFault, Draft, Entry, Head, Verifier};
use crate::domain::{Error, ErrorKind, Result};
use serde_json::{Map, Value};
use std::sync::Arc;

const PAGE_SIZE: usize = 1000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainReport {
    /// Intact entries from the first on.
    pub entries: i64,
    /// The entry by which damage was accepted: nothing before it is proved.
    pub accepted_by: Option<i64>,
    /// The head they were compared with.
    pub head: Head,
    /// The first fault; `None`: the log is intact.
    pub fault: Option<ChainFault>,
}

impl Store {
    /// Verifies every entry up to the present head, in constant memory. Entries written meanwhile
    /// are ignored.
    ///
    /// # Errors
    /// When the log cannot be read; a fault within it is not an error but a [`ChainFault`].
    pub async fn verify_chain(&self) -> Result<ChainReport> {
        let log = Arc::clone(self.guard()?);
        // Before the head: what is known now is in the log then.
        let known = log.known();
        let known_id = log.witness.database();
        let known_seq = known.seq;
        let read = self.search(move |tx| {
            let last = tx.audit_seq_range()?.map_or(0, |(_, last)| last);
            Ok((tx.audit_head()?, last, tx.audit_hash(known_seq)?, tx.database_id()?))
        });
        let (head, last, hash_at_known, id) = match read.await {
            Ok(read) => read,
            Err(error) if error.kind == ErrorKind::Tampered => {
                let head = Head { seq: 0, hash: String::new(), signature: String::new() };
                let fault = ChainFault::BadHead { detail: "it is missing".to_owned() };
                return Ok(ChainReport { entries: 0, accepted_by: None, head, fault: Some(fault) });
            }
            Err(error) => return Err(error),
        };
        let mut chain = Verifier::default();
        let fault = match log.check_head(&head) {
            Err(fault) => Some(fault),
            Ok(()) => self
                .first_fault(&mut chain, &head, last)
                .await?
                .or_else(|| check_known(&head, &known, hash_at_known).err())
                .or_else(|| (known_id.is_some() && known_id != id).then_some(ChainFault::Foreign))
                .or_else(|| log.witness.tampered().map(ChainFault::Latched)),
        };
        Ok(ChainReport { entries: chain.entries(), accepted_by: chain.accepted_by(), head, fault })
    }

    async fn first_fault(
        &self,
        chain: &mut Verifier,
        head: &Head,
        last: i64,
    ) -> Result<Option<ChainFault>> {
        self.read_log(chain, head.seq).await?;
        if let Err(fault) = chain.finish(head) {
            return Ok(Some(fault));
        }
        if last > head.seq {
            return Ok(Some(ChainFault::BeyondHead { seq: head.seq + 1 }));
        }
        let mistyped = self.first_mistyped(chain.accepted_by(), head.seq).await?;
        Ok(mistyped.map(|seq| ChainFault::Changed { seq }))
    }

    /// The numbers are complete up to the head's: a window of them has as many rows.
    async fn first_mistyped(&self, from: Option<i64>, last: i64) -> Result<Option<i64>> {
        let window = i64::try_from(WINDOW).map_err(Error::internal)?;
        let mut from = from.unwrap_or(i64::MIN);
        loop {
            let before = match from {
                from if from < 1 => Some(1),
                from if from <= last => Some(from + window),
                _ => None,
            };
            let found = self.search(move |tx| tx.mistyped_audit_row(from, before)).await?;
            match before {
                Some(before) if found.is_none() => from = before,
                _ => return Ok(found),
            }
        }
    }

    /// Pushes every entry up to a sequence number, also those after a fault.
    async fn read_log(&self, chain: &mut Verifier, up_to: i64) -> Result<()> {
        // From the lowest number, so that an entry inserted before the first one is found too.
        let mut after = i64::MIN;
        loop {
            let rows = self.search(move |tx| tx.audit_rows(after, up_to, PAGE_SIZE)).await?;
            let Some(newest) = rows.last().map(|row| row.seq) else { return Ok(()) };
            after = newest;
            push_rows(chain, rows)?;
        }
    }

    /// Continues a log that does not verify, by an entry that says so and identifies everything
    /// before it. From here on the witness knows this database.
    ///
    /// # Errors
    /// `Conflict` when the log verifies.
    pub async fn accept_audit_damage(&self, draft: Draft) -> Result<Entry> {
        let log = Arc::clone(self.guard()?);
        let report = self.verify_chain().await?;
        let Some(fault) = report.fault else {
            return Err(Error::conflict(
                "The audit log is whole and unaltered: there is nothing to accept.",
            ));
        };
        let known = log.known();
        let accept = move |tx: &mut Tx<'_>| {
            tx.lock_audit_head()?;
            let mut chain = Verifier::default();
            let mut last = None;
            loop {
                let after = last.as_ref().map_or(i64::MIN, |(seq, _)| *seq);
                let rows = tx.audit_rows(after, i64::MAX, PAGE_SIZE)?;
                let Some(row) = rows.last() else { break };
                last = Some((row.seq, row.hash.clone()));
                push_rows(&mut chain, rows)?;
            }
            let digest = chain.digest().unwrap_or_default();
            let details = details(&fault.to_string(), digest, &report.head, &known);
            let entry = tx.accept_audit_damage(draft.clone(), Damage { details, last })?;
            Ok((entry, tx.assign_database_id()?))
        };
        let guard = Some(Arc::clone(&log));
        let (entry, id) = self.run_write(guard, Gate::Always, accept).await?;
        let head = KnownHead { seq: entry.seq, hash: entry.hash.clone() };
        tokio::task::spawn_blocking(move || log.witness.accept(id, head))
            .await
            .map_err(Error::internal)?
            .map_err(|e| {
                Error::unavailable(
                    "The witness of the audit log cannot be written; run the command again.",
                )
                .caused_by(e)
            })?;
        Ok(entry)
    }
}

fn push_rows(chain: &mut Verifier, rows: Vec<AuditRow>) -> Result<()> {
    for row in rows {
        let (seq, stored) = (row.seq, row.stored_text()?);
        // The verifier keeps the first fault.
        let _: Result<(), ChainFault> = match row.into_canonical_entry() {
            Ok(entry) => chain.push(&entry),
            Err(_) => chain.push_unreadable(seq, &stored),
        };
    }
    Ok(())
}

fn details(fault: &str, digest: String, head: &Head, known: &KnownHead) -> Map<String, Value> {
    let mut details = Map::new();
    details.insert("fault".to_owned(), fault.into());
    details.insert(ACCEPTED_DIGEST.to_owned(), digest.into());
    details.insert("head_seq".to_owned(), head.seq.into());
    details.insert("head_hash".to_owned(), head.hash.clone().into());
    details.insert("known_seq".to_owned(), known.seq.into());
    details.insert("known_hash".to_owned(), known.hash.clone().into());
    details
}
