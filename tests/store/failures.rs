//! Failures of the database. (A full disk is tested beside the store, where its connection is
//! accessible.)

use super::*;
use crate::support::db::Backend;
use portcullis::domain::{Error, ErrorKind};
use portcullis::store::Store;
use std::sync::atomic::{AtomicU32, Ordering};

on_both! {
    /// A failed transaction is rolled back.
    async fn all_or_nothing(db) {
        let org = organization(&db).await;
        let ann = make_user(org, "ann@example.com");
        let id = ann.id;
        let failed = db.store.write(move |tx| {
            tx.insert_user(&ann, "hash")?;
            tx.put_setting("x", "1")?;
            tx.append_audit_entry(make_draft(Action::CreateUser))?;
            Err::<(), _>(Error::invalid("no"))
        }).await;
        assert_eq!(failed.unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(db.store.read(move |tx| tx.user(id)).await.unwrap(), None);
        assert_eq!(db.store.read(|tx| tx.setting("x")).await.unwrap(), None);
        assert_eq!(db.store.read(|tx| tx.change_counter()).await.unwrap(), 0);
    }

    /// A reader cannot write.
    async fn readers_cannot_write(db) {
        let error = db.store.read(|tx| tx.put_setting("x", "1")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
        assert!(db.store.read(|tx| tx.append_audit_entry(make_draft(Action::Login))).await.is_err());
        assert_eq!(db.store.read(|tx| tx.setting("x")).await.unwrap(), None);
    }

    /// Without a signer nothing can be audited, so no audited change is possible.
    async fn entries_need_a_signer(db) {
        let store = Store::open(&db.url).unwrap();
        let failed = store.write(|tx| { tx.put_setting("x", "1")?; tx.append_audit_entry(make_draft(Action::Login)) }).await;
        assert_eq!(failed.unwrap_err().kind, ErrorKind::Internal);
        assert_eq!(store.read(|tx| tx.setting("x")).await.unwrap(), None);
        assert!(store.verify_chain().await.is_err());
    }

    /// A panic within a transaction is an error of that request and is rolled back; the store goes
    /// on.
    async fn a_panic_is_contained(db) {
        let failed = db.store.write(|tx| -> portcullis::domain::Result<()> {
            tx.put_setting("x", "1")?;
            panic!("as a bug would")
        }).await;
        assert_eq!(failed.unwrap_err().kind, ErrorKind::Internal);
        assert_eq!(db.store.read(|tx| tx.setting("x")).await.unwrap(), None);
        db.store.write(|tx| tx.put_setting("x", "2")).await.unwrap();
    }

    /// Many more tasks than connections: all are served.
    async fn many_tasks_share_few_connections(db) {
        let tasks: Vec<_> = (0..200).map(|_| {
            let store = db.store.clone();
            tokio::spawn(async move { store.read(|tx| tx.change_counter()).await })
        }).collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), 0);
        }
    }
}

/// The server closes our connections: running transactions fail as unavailable, and the store opens
/// new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_are_replaced() {
    let db = Db::new(Backend::Postgres);
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let db = std::sync::Arc::new(db);
    let inside = db.clone();
    let failed = db
        .store
        .write(move |tx| {
            tx.put_setting("x", "1")?;
            inside.raw(cut);
            tx.put_setting("x", "2")
        })
        .await
        .unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Unavailable, "{failed:?}");
    assert_eq!(db.store.read(|tx| tx.setting("x")).await.unwrap(), None);
    // Closed while idle, they are replaced without an error.
    db.raw(cut);
    db.store.write(|tx| tx.put_setting("x", "3")).await.unwrap();
}

/// A text that PostgreSQL cannot store is a fault of the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nul_is_invalid() {
    let db = Db::new(Backend::Postgres);
    let error = db.store.write(|tx| tx.put_setting("x", "a\0b")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error:?}");
}

/// Another process holds SQLite's write lock for long: the writer times out; readers are not
/// affected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_writer_in_another_process() {
    use diesel::connection::SimpleConnection;
    let db = Db::new(Backend::Sqlite);
    let mut other = db.connection();
    other
        .batch_execute("BEGIN IMMEDIATE; INSERT INTO settings (name, value) VALUES ('x', '1')")
        .unwrap();
    assert_eq!(db.store.read(|tx| tx.setting("x")).await.unwrap(), None);
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let error = db
        .store
        .write(|tx| {
            RUNS.fetch_add(1, Ordering::Relaxed);
            tx.put_setting("x", "2")
        })
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, RUNS.load(Ordering::Relaxed)),
        (ErrorKind::Unavailable, 0),
        "{error:?}"
    );
    other.batch_execute("COMMIT").unwrap();
    db.store.write(|tx| tx.put_setting("x", "3")).await.unwrap();
    assert_eq!(db.store.read(|tx| tx.setting("x")).await.unwrap().as_deref(), Some("3"));
}

/// Writes a row and an audit entry in one transaction and prints each number once it is committed,
/// until the test below kills it.
#[tokio::test]
#[ignore = "the process that `committed_entries_survive_kill_9` kills"]
async fn writer_process() {
    let Ok(url) = std::env::var("PORTCULLIS_TEST_VICTIM") else { return };
    let store = Store::open_with(
        &url,
        std::sync::Arc::new(crate::support::db::VaultSigner(crate::support::db::vault())),
    )
    .unwrap();
    for n in 1..100_000 {
        let write = move |tx: &mut portcullis::store::Tx<'_>| {
            tx.put_setting("n", &n.to_string())?;
            tx.append_audit_entry(make_draft(Action::Login))
        };
        let entry = store.write(write).await.unwrap();
        println!("committed {}", entry.seq);
    }
}

/// The gateway is killed while it writes: everything it reported is there, the log is intact, and
/// no transaction is partial.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_entries_survive_kill_9() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let db = Db::new(Backend::Sqlite);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "store::failures::writer_process", "--ignored", "--nocapture"])
        .env("PORTCULLIS_TEST_VICTIM", &db.url);
    let mut child =
        crate::support::process_guard::spawn_guarded(command.stdout(Stdio::piped())).unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = 0i64;
    while last < 40 {
        let line = said.next().expect("the writer_process lives").unwrap();
        last = line.rsplit_once("committed ").map_or(last, |(_, n)| n.parse().unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Lines printed before the kill count too; the last one may be incomplete.
    for line in said.map_while(Result::ok) {
        last = line
            .rsplit_once("committed ")
            .and_then(|(_, n)| n.parse().ok())
            .map_or(last, |n: i64| n.max(last));
    }
    let verdict = db.reopen().verify_chain().await.unwrap();
    assert_eq!(verdict.fault, None);
    assert!(verdict.entries >= last, "{} < {last}", verdict.entries);
    let n = db.store.read(|tx| tx.setting("n")).await.unwrap();
    assert_eq!(n, Some(verdict.entries.to_string()));
}
