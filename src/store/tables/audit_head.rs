//! The end of the audit log: its signed head and its last entry, which are verified in the
//! transaction that extends them. Nothing is signed that was not verified.
//!
//! Writing an entry locks the head row until the transaction ends, so that a concurrent writer sees
//! the entry: on PostgreSQL by the row lock of the `UPDATE`, on SQLite because there is one writer.

use super::audit::{AuditRow, replace_nul};
use crate::domain::audit::{ChainFault, Draft, Entry, GENESIS, Head};
use crate::domain::{Error, Result};
use crate::store::log_guard::LogGuard;
use crate::store::schema::{audit_entries, audit_head};
use crate::store::transaction::Tx;
use crate::store::witness::KnownHead;
use diesel::prelude::*;
use serde_json::{Map, Value};

/// Setting that identifies the database, for the witness.
const DATABASE_ID: &str = "database_id";

/// What an acceptance is about, and where it is written.
pub(crate) struct Damage {
    /// Everything before the acceptance ([`crate::domain::audit::ACCEPTED_DIGEST`] among it).
    pub(crate) details: Map<String, Value>,
    /// The last stored entry, whatever it is.
    pub(crate) last: Option<(i64, String)>,
}

impl Tx<'_> {
    /// Appends an entry and signs the new head. Locks the head until the transaction ends: do it
    /// last.
    ///
    /// # Errors
    /// As [`Tx::append_audit_entries`].
    pub fn append_audit_entry(&mut self, draft: Draft) -> Result<Entry> {
        let mut entries = self.append_audit_entries(vec![draft])?;
        entries.pop().ok_or_else(|| Error::internal("no audit entry was appended"))
    }

    /// Appends entries in order under one signature of the new head. Locks the head until the
    /// transaction ends: call it last.
    ///
    /// # Errors
    /// `Tampered` when the present end of the log does not verify.
    pub fn append_audit_entries(&mut self, drafts: Vec<Draft>) -> Result<Vec<Entry>> {
        let log = self.log()?;
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let locked = self.lock_audit_head()?;
        let own = self.appended.as_ref();
        let head = match locked {
            // What this transaction has written needs no second look.
            Some(head) if own.is_some_and(|own| own.seq == head.seq && own.hash == head.hash) => {
                head
            }
            head => self.verified_end(log, head)?,
        };
        let mut entries = Vec::with_capacity(drafts.len());
        let (mut last, mut prev_hash) = (head.seq, head.hash);
        for mut draft in drafts {
            last = last.checked_add(1).ok_or_else(|| Error::internal("the audit log is full"))?;
            replace_nul(&mut draft);
            let entry = draft.chain(last, &prev_hash);
            prev_hash.clone_from(&entry.hash);
            self.insert_audit_row(&entry)?;
            entries.push(entry);
        }
        self.sign_audit_head(log, last, prev_hash)?;
        Ok(entries)
    }

    /// The head, when it is signed by this gateway, is the last entry's, and follows what is known
    /// outside the database.
    ///
    /// # Errors
    /// `Tampered` with the [`ChainFault`].
    pub(crate) fn verified_head(&mut self, log: &LogGuard) -> Result<Head> {
        let head = self.stored_audit_head()?;
        self.verified_end(log, head)
    }

    /// The stored head, if there is one, locked until the transaction ends.
    pub(crate) fn lock_audit_head(&mut self) -> Result<Option<Head>> {
        let locked = diesel::update(audit_head::table.find(1))
            .set(audit_head::seq.eq(audit_head::seq))
            .returning((audit_head::seq, audit_head::hash, audit_head::signature))
            .get_result::<(i64, String, String)>(self.conn)
            .optional()?;
        Ok(locked.map(|(seq, hash, signature)| Head { seq, hash, signature }))
    }

    fn verified_end(&mut self, log: &LogGuard, head: Option<Head>) -> Result<Head> {
        // Read before the database, by a reader: what is known then is in its snapshot.
        let known = log.known();
        let Some(head) = head else { return Err(Error::tampered(missing_head())) };
        let last = audit_entries::table
            .order(audit_entries::seq.desc())
            .select(AuditRow::as_select())
            .first(self.conn)
            .optional()?;
        let hash_at_known = match known.seq {
            seq if seq > 0 && seq < head.seq => self.audit_hash(seq)?,
            _ => None,
        };
        log.check_head(&head)
            .and_then(|()| check_last(&head, last))
            .and_then(|()| check_known(&head, &known, hash_at_known))
            .map_err(Error::tampered)?;
        Ok(head)
    }

    fn insert_audit_row(&mut self, entry: &Entry) -> Result<()> {
        diesel::insert_into(audit_entries::table)
            .values(AuditRow::of(entry)?)
            .execute(self.conn)?;
        Ok(())
    }

    fn sign_audit_head(&mut self, log: &LogGuard, seq: i64, hash: String) -> Result<()> {
        let signature = log.sign(seq, &hash);
        let head = (
            audit_head::seq.eq(seq),
            audit_head::hash.eq(&hash),
            audit_head::signature.eq(signature),
        );
        let signed = diesel::update(audit_head::table.find(1)).set(head).execute(self.conn)?;
        if signed == 0 {
            return Err(Error::tampered(missing_head()));
        }
        self.appended = Some(KnownHead { seq, hash });
        Ok(())
    }

    fn stored_audit_head(&mut self) -> Result<Option<Head>> {
        let columns = (audit_head::seq, audit_head::hash, audit_head::signature);
        let stored = audit_head::table
            .find(1)
            .select(columns)
            .first::<(i64, String, String)>(self.conn)
            .optional()?;
        Ok(stored.map(|(seq, hash, signature)| Head { seq, hash, signature }))
    }

    /// The head as stored; its signature is not verified here.
    ///
    /// # Errors
    /// `Tampered` when there is none.
    pub fn audit_head(&mut self) -> Result<Head> {
        self.stored_audit_head()?.ok_or_else(|| Error::tampered(missing_head()))
    }

    /// The hash that an entry is stored with.
    pub(crate) fn audit_hash(&mut self, seq: i64) -> Result<Option<String>> {
        let column = audit_entries::table.find(seq).select(audit_entries::hash);
        Ok(column.first(self.conn).optional()?)
    }

    /// Makes a database the tables of which were created in this transaction: an identity, and the
    /// signed head of an empty log. No other empty log is ever signed.
    pub(crate) fn create_audit_log(&mut self) -> Result<()> {
        let log = self.log()?;
        let signature = log.sign(0, GENESIS);
        diesel::update(audit_head::table.find(1))
            .set(audit_head::signature.eq(signature))
            .execute(self.conn)?;
        self.assign_database_id().map(drop)
    }

    /// The identity of the database; `None` for one that an earlier release made.
    pub(crate) fn database_id(&mut self) -> Result<Option<String>> {
        self.setting(DATABASE_ID)
    }

    /// The identity of the database, which gets one if it has none.
    pub(crate) fn assign_database_id(&mut self) -> Result<String> {
        if let Some(id) = self.database_id()? {
            return Ok(id);
        }
        let id = uuid::Uuid::new_v4().to_string();
        self.put_setting(DATABASE_ID, &id)?;
        Ok(id)
    }

    /// Continues a log that does not verify from its last stored entry, whatever that is.
    pub(crate) fn accept_audit_damage(
        &mut self,
        mut draft: Draft,
        damage: Damage,
    ) -> Result<Entry> {
        let log = self.log()?;
        let (last, prev_hash) = damage.last.unwrap_or_else(|| (0, GENESIS.to_owned()));
        let seq = last.checked_add(1).filter(|seq| *seq > 0).ok_or_else(|| {
            Error::conflict(format!(
                "No entry can follow entry {last}: remove it from the database first."
            ))
        })?;
        draft.details.extend(damage.details);
        replace_nul(&mut draft);
        let entry = draft.chain(seq, &prev_hash);
        self.insert_audit_row(&entry)?;
        diesel::delete(audit_head::table).execute(self.conn)?;
        diesel::insert_into(audit_head::table)
            .values((
                audit_head::id.eq(1),
                audit_head::seq.eq(seq),
                audit_head::hash.eq(&entry.hash),
                audit_head::signature.eq(log.sign(seq, &entry.hash)),
            ))
            .execute(self.conn)?;
        Ok(entry)
    }
}

fn missing_head() -> ChainFault {
    ChainFault::BadHead { detail: "it is missing".to_owned() }
}

/// The last stored entry is the head's, and its content has the hash.
fn check_last(head: &Head, last: Option<AuditRow>) -> Result<(), ChainFault> {
    let seq = last.as_ref().map_or(0, |row| row.seq);
    match seq.cmp(&head.seq) {
        std::cmp::Ordering::Less => Err(ChainFault::Truncated { last: seq, expected: head.seq }),
        std::cmp::Ordering::Greater => Err(ChainFault::BeyondHead { seq }),
        std::cmp::Ordering::Equal => {
            let hash = match last {
                None => GENESIS.to_owned(),
                Some(row) => row
                    .into_canonical_entry()
                    .ok()
                    .filter(|entry| entry.computed_hash() == entry.hash)
                    .map(|entry| entry.hash)
                    .ok_or(ChainFault::Changed { seq })?,
            };
            if hash == head.hash {
                Ok(())
            } else {
                Err(ChainFault::BadHead { detail: "its hash is not the last entry's".to_owned() })
            }
        }
    }
}

/// The log follows what is known outside the database. `hash` is that of the stored entry at the
/// known position, when that is before the head.
pub(crate) fn check_known(
    head: &Head,
    known: &KnownHead,
    hash: Option<String>,
) -> Result<(), ChainFault> {
    if known.seq == 0 {
        return Ok(());
    }
    let stored = match head.seq.cmp(&known.seq) {
        std::cmp::Ordering::Less => {
            return Err(ChainFault::OlderCopy { last: head.seq, known: known.seq });
        }
        std::cmp::Ordering::Equal => Some(head.hash.clone()),
        std::cmp::Ordering::Greater => hash,
    };
    if stored.as_ref() == Some(&known.hash) {
        Ok(())
    } else {
        Err(ChainFault::Replaced { seq: known.seq })
    }
}
