//! The witness: an older copy of the database, an empty one in its place and a missing file are
//! refused when they are opened.

use super::*;
use crate::support::db::{Backend, VaultSigner, empty_database, vault};
use portcullis::domain::ErrorKind;
use portcullis::store::{Purpose, Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn open(url: &str, witness: &Path) -> Result<Store, StoreError> {
    Store::open_witnessed(url, Purpose::Use, Arc::new(VaultSigner(vault())), Some(witness))
}

/// A folder for the witness, and its path.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit-witness.json");
    (dir, path)
}

async fn act(store: &Store, count: usize) {
    for _ in 0..count {
        store.write(|tx| tx.append_audit_entry(make_draft(Action::Login))).await.unwrap();
    }
}

/// Opens and checks, as a gateway that starts; why it is refused.
async fn refused(url: &str, witness: &Path) -> String {
    match open(url, witness) {
        Ok(store) => store.check_witness().await.unwrap_err(),
        Err(error) => error,
    }
    .to_string()
}

on_both! {
    async fn an_older_copy_is_refused(db) {
        let (_folder, path) = folder();
        let store = open(&db.url, &path).unwrap();
        store.check_witness().await.unwrap();
        act(&store, 5).await;
        db.raw("CREATE TABLE old_head AS SELECT * FROM audit_head");
        act(&store, 5).await;
        drop(store);
        // As it is, it starts.
        open(&db.url, &path).unwrap().check_witness().await.unwrap();
        db.raw("DELETE FROM audit_entries WHERE seq > 5; DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM old_head");
        let sentence = refused(&db.url, &path).await;
        for part in ["ends with entry 5, but entry 10 was written", "older copy", "portcullis audit accept-damage"] {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
        // Nor can anybody write who does not ask.
        let store = open(&db.url, &path).unwrap();
        let failed = store.write(|tx| tx.append_audit_entry(make_draft(Action::Login))).await.unwrap_err();
        assert_eq!(failed.kind, ErrorKind::Tampered);
        // That was a write: it is remembered, also by the next process.
        drop(store);
        assert!(refused(&db.url, &path).await.contains("older copy"));

        let accepting = Store::open_witnessed(&db.url, Purpose::Accept, Arc::new(VaultSigner(vault())), Some(&path)).unwrap();
        let accepted = accepting.accept_audit_damage(make_draft(Action::AcceptAuditDamage)).await.unwrap();
        assert_eq!((accepted.seq, &accepted.details["known_seq"]), (6, &serde_json::json!(10)));
        let store = open(&db.url, &path).unwrap();
        store.check_witness().await.unwrap();
        act(&store, 1).await;
        let report = store.verify_chain().await.unwrap();
        assert_eq!((report.fault, report.accepted_by, report.entries), (None, Some(6), 7));
    }

    /// A process that runs goes on as soon as an administrator has accepted, and not before.
    async fn a_running_process_notices_the_acceptance(db) {
        let (_folder, path) = folder();
        let store = open(&db.url, &path).unwrap();
        store.check_witness().await.unwrap();
        act(&store, 5).await;
        db.raw("UPDATE audit_head SET signature = ''");
        let write = || store.write(|tx| tx.append_audit_entry(make_draft(Action::Login)));
        assert_eq!(write().await.unwrap_err().kind, ErrorKind::Tampered);
        assert_eq!(write().await.unwrap_err().kind, ErrorKind::Tampered);
        let accepting = Store::open_witnessed(&db.url, Purpose::Accept, Arc::new(VaultSigner(vault())), Some(&path)).unwrap();
        accepting.accept_audit_damage(make_draft(Action::AcceptAuditDamage)).await.unwrap();
        assert_eq!(write().await.unwrap().seq, 7);
        assert_eq!(store.check_audit_log().await.unwrap(), 7);
    }

    async fn another_database_is_refused(db) {
        let (_folder, path) = folder();
        let store = open(&db.url, &path).unwrap();
        store.check_witness().await.unwrap();
        drop(store);
        db.raw("UPDATE settings SET value = 'another' WHERE name = 'database_id'");
        assert!(refused(&db.url, &path).await.contains("not the database that this gateway has used"));
        db.raw("DELETE FROM settings WHERE name = 'database_id'");
        assert!(refused(&db.url, &path).await.contains("not the database that this gateway has used"));
    }

    /// One that an earlier release made has no identity, and its folder no witness: it gets both.
    async fn a_database_of_an_earlier_release_gets_an_identity(db) {
        let (_folder, path) = folder();
        act(&db.store, 3).await;
        db.raw("DELETE FROM settings WHERE name = 'database_id'");
        let store = open(&db.url, &path).unwrap();
        store.check_witness().await.unwrap();
        drop(store);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"seq\":3"), "{text}");
        db.raw("UPDATE settings SET value = 'another' WHERE name = 'database_id'");
        refused(&db.url, &path).await;
    }
}

async fn an_empty_database_is_refused(backend: Backend) {
    let (_folder, path) = folder();
    let (first, empty) = (empty_database(backend), empty_database(backend));
    let store = open(&first.url, &path).unwrap();
    store.check_witness().await.unwrap();
    act(&store, 4).await;
    drop(store);
    for _ in 0..2 {
        let sentence = refused(&empty.url, &path).await;
        for part in ["it is empty", "at least 4 entries", "restore a backup", "accept-damage"] {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
    }
    // To begin anew is an act, which the new log begins with.
    let signer = Arc::new(VaultSigner(vault()));
    let accepting =
        Store::open_witnessed(&empty.url, Purpose::Accept, signer, Some(&path)).unwrap();
    let accepted =
        accepting.accept_audit_damage(make_draft(Action::AcceptAuditDamage)).await.unwrap();
    assert_eq!((accepted.seq, &accepted.details["known_seq"]), (1, &serde_json::json!(4)));
    open(&empty.url, &path).unwrap().check_witness().await.unwrap();
    assert!(refused(&first.url, &path).await.contains("not the database"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_database_is_refused_on_sqlite() {
    an_empty_database_is_refused(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_database_is_refused_on_postgres() {
    an_empty_database_is_refused(Backend::Postgres).await;
}

/// A file that is gone is not made again; one that is gone while the process runs takes no writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_refused_and_takes_no_writes() {
    let (folder, path) = folder();
    let file = folder.path().join("p.db");
    let url = format!("sqlite:{}", file.display());
    let store = open(&url, &path).unwrap();
    store.check_witness().await.unwrap();
    act(&store, 2).await;
    let moved = folder.path().join("moved.db");
    std::fs::rename(&file, &moved).unwrap();
    for _ in 0..2 {
        let failed =
            store.write(|tx| tx.append_audit_entry(make_draft(Action::Login))).await.unwrap_err();
        assert_eq!(failed.kind, ErrorKind::Unavailable);
        assert!(failed.message.contains("moved or replaced"), "{failed}");
    }
    assert_eq!(store.ping().await.unwrap_err().kind, ErrorKind::Unavailable, "health says so");
    assert!(!file.exists(), "nobody made another one");
    let sentence = refused(&url, &path).await;
    assert!(sentence.contains("it is missing. This gateway has used one"), "{sentence}");
    assert!(!file.exists());
    // Another file in its place is not written either.
    std::fs::copy(&moved, &file).unwrap();
    assert!(store.write(|tx| tx.put_setting("x", "1")).await.is_err());
    std::fs::rename(&moved, &file).unwrap();
    act(&store, 1).await;
    store.ping().await.unwrap();
    let report = store.verify_chain().await.unwrap();
    assert_eq!((report.entries, report.fault), (3, None));
}
