//! The witness of the audit log: what this data folder knows of the log, in a file outside the
//! database (docs/adr/0023).
//!
//! A database can be replaced by an older copy of itself whose head is signed correctly. The
//! witness knows better: the database's identity, and sequence number and hash of an entry that was
//! committed. It is written after the commit, so it is never ahead of the database; it lags at most
//! [`WRITE_INTERVAL`] behind (in memory not at all), because a write does not wait for it. Several
//! processes share the file: under its lock each keeps the newer record.

use crate::domain::audit::{GENESIS, Head};
use crate::domain::sync::lock;
use crate::files;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The file is written at most once in this time, and at the end.
pub const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Position and hash of an entry that was committed; 0 and [`GENESIS`] before the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KnownHead {
    pub(super) seq: i64,
    pub(super) hash: String,
}

impl From<Head> for KnownHead {
    fn from(head: Head) -> Self {
        Self { seq: head.seq, hash: head.hash }
    }
}

/// The content of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The database's identity; none before there was one.
    database: Option<String>,
    seq: i64,
    hash: String,
    /// How often an administrator accepted damage. A greater number replaces everything else, also
    /// by a smaller `seq`.
    acceptances: u64,
    /// What did not verify while a gateway ran: nothing is written until it is accepted.
    tampered: Option<String>,
}

impl Default for Record {
    fn default() -> Self {
        Self { database: None, seq: 0, hash: GENESIS.to_owned(), acceptances: 0, tampered: None }
    }
}

impl Record {
    /// Combines with the record of another process.
    fn merge(&mut self, other: Self) {
        match other.acceptances.cmp(&self.acceptances) {
            std::cmp::Ordering::Greater => *self = other,
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => {
                if other.seq > self.seq {
                    (self.seq, self.hash) = (other.seq, other.hash);
                }
                self.database = self.database.take().or(other.database);
                self.tampered = self.tampered.take().or(other.tampered);
            }
        }
    }
}

/// The witness, in memory and (where it has a path) in its file.
pub(super) struct Witness {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    path: Option<PathBuf>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    record: Record,
    /// The file lags behind.
    is_dirty: bool,
    is_closing: bool,
    /// Why the file could not be written last.
    failure: Option<String>,
}

impl Witness {
    /// Of this process only.
    pub(super) fn in_memory() -> Self {
        let shared = Shared { path: None, state: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared), writer: None }
    }

    /// Reads the file, which need not exist.
    ///
    /// # Errors
    /// The system's; `InvalidData` when it is not a witness.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let record = read(path)?.unwrap_or_default();
        let shared = Arc::new(Shared {
            path: Some(path.to_owned()),
            state: Mutex::new(State { record, ..State::default() }),
            changed: Condvar::new(),
        });
        let writer = std::thread::Builder::new().name("audit-witness".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.write_behind()
        })?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// The identity of the database, when there was one.
    pub(super) fn database(&self) -> Option<String> {
        self.state().record.database.clone()
    }

    pub(super) fn known(&self) -> KnownHead {
        let state = self.state();
        KnownHead { seq: state.record.seq, hash: state.record.hash.clone() }
    }

    /// What did not verify, until it is accepted.
    pub(super) fn tampered(&self) -> Option<String> {
        self.state().record.tampered.clone()
    }

    /// Why the file could not be written last.
    pub(super) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Remembers a head that was committed.
    pub(super) fn record(&self, head: KnownHead) {
        let mut state = self.state();
        if head.seq > state.record.seq {
            (state.record.seq, state.record.hash) = (head.seq, head.hash);
            state.is_dirty = true;
            self.shared.changed.notify_one();
        }
    }

    /// Makes a database the witness's, and writes the file before it returns.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn adopt(&self, database: &str) -> io::Result<()> {
        self.state().record.database.get_or_insert_with(|| database.to_owned());
        self.shared.save()
    }

    /// Stops all writing, here and in the file. The first reason stays.
    pub(super) fn latch(&self, fault: &str) {
        {
            let mut state = self.state();
            if state.record.tampered.is_some() {
                return;
            }
            state.record.tampered = Some(fault.to_owned());
            state.is_dirty = true;
        }
        tracing::error!(
            fault,
            "audit.tampered: nothing is written until an administrator runs `portcullis audit accept-damage`"
        );
        if let Err(error) = self.shared.save() {
            tracing::error!(%error, "audit.witness.not_written");
        }
    }

    /// How often damage was accepted, as far as this process knows.
    pub(super) fn acceptances(&self) -> u64 {
        self.state().record.acceptances
    }

    /// Adopts the file's record when an administrator accepted damage meanwhile.
    pub(super) fn reload(&self) {
        let Some(Ok(Some(stored))) = self.shared.path.as_deref().map(read) else { return };
        let mut state = self.state();
        if stored.acceptances > state.record.acceptances {
            tracing::warn!(seq = stored.seq, "audit.damage_accepted");
            state.record = stored;
        }
    }

    /// The log continues from this head, whatever was known before; the file is written before it
    /// returns.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn accept(&self, database: String, head: KnownHead) -> io::Result<()> {
        let stored = self.shared.path.as_deref().map_or(Ok(None), read).ok().flatten();
        {
            let mut state = self.state();
            let before = stored.map_or(0, |record| record.acceptances);
            state.record = Record {
                database: Some(database),
                seq: head.seq,
                hash: head.hash,
                acceptances: before.max(state.record.acceptances).saturating_add(1),
                tampered: None,
            };
        }
        self.shared.save()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

impl Drop for Witness {
    /// Writes what the file lags behind.
    fn drop(&mut self) {
        self.state().is_closing = true;
        self.shared.changed.notify_one();
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

impl Shared {
    /// The thread that writes the file, until the witness is dropped.
    fn write_behind(&self) {
        loop {
            let state = lock(&self.state);
            let mut state = self
                .changed
                .wait_while(state, |state| !state.is_dirty && !state.is_closing)
                .unwrap_or_else(PoisonError::into_inner);
            let is_closing = state.is_closing;
            if std::mem::take(&mut state.is_dirty) {
                drop(state);
                if let Err(error) = self.save() {
                    tracing::error!(%error, "audit.witness.not_written");
                    lock(&self.state).is_dirty = true;
                }
            } else {
                drop(state);
            }
            if is_closing {
                return;
            }
            let state = lock(&self.state);
            drop(self.changed.wait_timeout_while(state, WRITE_INTERVAL, |state| !state.is_closing));
        }
    }

    /// Combines with the file and replaces it, unless it says the same already.
    fn save(&self) -> io::Result<()> {
        let outcome = self.path.as_deref().map_or(Ok(()), |path| self.save_to(path));
        lock(&self.state).failure = outcome.as_ref().err().map(ToString::to_string);
        outcome
    }

    fn save_to(&self, path: &Path) -> io::Result<()> {
        let _locked = files::lock(&path.with_extension("lock"))?;
        let stored = read(path)?;
        let record = {
            let mut state = lock(&self.state);
            if let Some(stored) = stored.clone() {
                state.record.merge(stored);
            }
            state.record.clone()
        };
        if stored.as_ref() == Some(&record) {
            return Ok(());
        }
        let mut text = serde_json::to_vec(&record).map_err(io::Error::other)?;
        text.push(b'\n');
        files::replace_private(path, &text)
    }
}

fn read(path: &Path) -> io::Result<Option<Record>> {
    match files::read_private(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: i64) -> KnownHead {
        KnownHead { seq, hash: format!("hash {seq}") }
    }

    #[test]
    fn the_file_is_written_at_the_end_and_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit-witness.json");
        let witness = Witness::open(&path).unwrap();
        witness.adopt("a").unwrap();
        assert_eq!(read(&path).unwrap().unwrap().database.as_deref(), Some("a"));
        for seq in 1..=50 {
            witness.record(head(seq));
        }
        let behind = Witness::open(&path).unwrap();
        drop(witness);
        assert_eq!(Witness::open(&path).unwrap().known(), head(50));
        // A process that knows less does not overwrite it.
        behind.record(head(7));
        drop(behind);
        assert_eq!(Witness::open(&path).unwrap().known(), head(50));
    }

    #[test]
    fn a_latch_is_shared_until_an_acceptance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit-witness.json");
        let gateway = Witness::open(&path).unwrap();
        gateway.record(head(9));
        gateway.latch("entry 9 was changed");
        gateway.latch("another reason");
        let shell = Witness::open(&path).unwrap();
        assert_eq!(shell.tampered().as_deref(), Some("entry 9 was changed"));
        gateway.reload();
        assert!(gateway.tampered().is_some(), "nothing was accepted");
        shell.accept("a".to_owned(), head(5)).unwrap();
        gateway.reload();
        assert_eq!(gateway.acceptances(), 1);
        assert_eq!((gateway.tampered(), gateway.known()), (None, head(5)));
        drop((gateway, shell));
        assert_eq!(Witness::open(&path).unwrap().known(), head(5), "what was known before is gone");
    }

    #[test]
    fn a_file_that_is_not_a_witness_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit-witness.json");
        for text in ["", "{}", "{\"seq\":1}"] {
            files::replace_private(&path, text.as_bytes()).unwrap();
            assert_eq!(Witness::open(&path).err().unwrap().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_reported_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/audit-witness.json");
        let witness = Witness::open(&path).unwrap();
        assert!(witness.adopt("a").is_err());
        assert!(witness.failure().is_some());
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        witness.adopt("a").unwrap();
        assert_eq!(witness.failure(), None);
    }
}
