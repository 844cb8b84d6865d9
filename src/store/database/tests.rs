//! A full disk, simulated by limiting the pages of the writer's file: only here is that connection
//! accessible.

use super::*;
use crate::domain::Error;
use crate::domain::audit::{Action, Actor, Draft, EntryTarget, Outcome};
use crate::domain::{ErrorKind, Timestamp};
use diesel::connection::SimpleConnection;

struct Plain;

impl HeadSigner for Plain {
    fn sign(&self, text: &str) -> String {
        format!("signed {text}")
    }
    fn verify(&self, text: &str, signature: &str) -> bool {
        signature == self.sign(text)
    }
}

fn draft() -> Draft {
    Draft {
        time: Timestamp(0),
        organization_id: None,
        actor: Actor::default(),
        action: Action::Login,
        target: EntryTarget::default(),
        outcome: Outcome::Success,
        reason: None,
        source_ip: None,
        user_agent: None,
        session_id: None,
        workspace_id: None,
        request_id: None,
        details: serde_json::Map::new(),
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_rolls_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = Store::open_with(&format!("sqlite:{}", path.display()), Arc::new(Plain)).unwrap();
    let limit = async |pages: &'static str| {
        store
            .pools
            .run(Work::Change, move |conn| {
                Ok(conn.batch_execute(&format!("PRAGMA max_page_count = {pages}"))?)
            })
            .await
            .unwrap();
    };
    store.write(|tx| tx.append_audit_entry(draft())).await.unwrap();
    limit("1").await; // SQLite takes the present size for what is smaller: the file cannot grow.
    // One transaction that writes a little, then much, then an audit entry.
    let fill = |tx: &mut Tx<'_>| {
        tx.put_setting("small", "1")?;
        tx.put_setting("large", &"x".repeat(1 << 20))?;
        tx.append_audit_entry(draft())
    };
    let full = store.write(fill).await.unwrap_err();
    assert_eq!(full.kind, ErrorKind::Unavailable, "{full:?}");
    assert!(full.message.contains("disk is full"), "{full}");
    assert_eq!(store.ping().await.unwrap_err().kind, ErrorKind::Unavailable, "health says so");
    assert_eq!(
        store.read(|tx| Ok((tx.setting("small")?, tx.setting("large")?))).await.unwrap(),
        (None, None)
    );
    // Entries are appended until the pages are full; the log stays intact.
    limit("1").await;
    let mut written = 1;
    let failed = loop {
        match store.write(|tx| tx.append_audit_entry(draft())).await {
            Ok(_) => written += 1,
            Err(failed) => break failed,
        }
        assert!(written < 10_000);
    };
    assert_eq!(failed.kind, ErrorKind::Unavailable, "{failed:?}");
    let verdict = store.verify_chain().await.unwrap();
    assert_eq!((verdict.entries, verdict.fault), (written, None));
    // With free space it works again.
    limit("1000000").await;
    store.ping().await.unwrap();
    store.write(fill).await.unwrap();
    assert_eq!(store.verify_chain().await.unwrap().fault, None);
}

#[tokio::test]
async fn a_conflict_on_a_full_disk_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Store::open_with(&format!("sqlite:{}", dir.path().join("a.db").display()), Arc::new(Plain))
            .unwrap();
    store
        .pools
        .run(Work::Change, |conn| Ok(conn.batch_execute("PRAGMA max_page_count = 1")?))
        .await
        .unwrap();
    // Fails within a savepoint, after SQLite may have rolled back the whole transaction.
    let failed = store
        .write(|tx| {
            tx.savepoint(|conn| {
                conn.batch_execute(&format!(
                    "INSERT INTO settings (name, value) VALUES ('x', '{}')",
                    "x".repeat(1 << 20)
                ))
            })
            .map_err(Error::from)
        })
        .await;
    assert_eq!(failed.unwrap_err().kind, ErrorKind::Unavailable);
    store
        .write(|tx| tx.append_audit_entry(draft()))
        .await
        .map(drop)
        .or_else(|e| if e.kind == ErrorKind::Unavailable { Ok(()) } else { Err(e) })
        .unwrap();
    assert_eq!(store.verify_chain().await.unwrap().fault, None);
}

#[tokio::test]
async fn the_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let store = Store::open_with(&format!("sqlite:{}", path.display()), Arc::new(Plain)).unwrap();
    store.write(|tx| tx.append_audit_entry(draft())).await.unwrap();
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}
