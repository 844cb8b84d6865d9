//! The end of the audit log is verified before it is extended: whatever was done to it, the next
//! act does not sign it, and nothing is written until an administrator accepts it.

use super::*;
use crate::support::db::{Backend, VaultSigner, vault};
use crate::support::forge::{EndDamage, doubled, set_details, stored_log};
use portcullis::domain::ErrorKind;
use portcullis::domain::audit::{ChainFault, Entry};
use portcullis::store::{Purpose, Store};
use std::sync::Arc;

async fn act(store: &Store) -> portcullis::domain::Result<Entry> {
    let draft = Draft {
        details: serde_json::json!({"role": "member", "n": 1}).as_object().unwrap().clone(),
        ..make_draft(Action::LoginFailed)
    };
    store.write(move |tx| tx.append_audit_entry(draft.clone())).await
}

async fn written(db: &Db) {
    for _ in 0..8 {
        act(&db.store).await.unwrap();
    }
}

fn accepting(db: &Db) -> Store {
    Store::open_witnessed(&db.url, Purpose::Accept, Arc::new(VaultSigner(vault())), None).unwrap()
}

async fn check(backend: Backend, damage: EndDamage) {
    let db = Db::new(backend);
    written(&db).await;
    // Another process opened the database before; it knows nothing of what was written since.
    let other = db.reopen();
    damage.apply(&db.store, &db.url).await;
    let before = stored_log(&db.url);
    for store in [&other, &db.store] {
        let refused = act(store).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Tampered, "{damage:?}: {refused:?}");
        assert!(refused.message.contains("administrator"), "{damage:?}: {refused}");
        let unaudited = store.write(|tx| tx.put_setting("x", "1")).await.unwrap_err();
        assert_eq!(unaudited.kind, ErrorKind::Tampered, "{damage:?}: nothing at all is written");
        assert_eq!(store.check_audit_log().await.unwrap_err().kind, ErrorKind::Tampered);
        assert!(store.verify_chain().await.unwrap().fault.is_some(), "{damage:?}");
        assert_eq!(act(store).await.unwrap_err().kind, ErrorKind::Tampered, "{damage:?}");
    }
    assert_eq!(stored_log(&db.url), before, "{damage:?}: nothing was signed");
    assert!(db.store.read(|tx| tx.setting("x")).await.unwrap().is_none());
    // A process that starts now notices, too.
    let fresh = db.reopen();
    assert_eq!(act(&fresh).await.unwrap_err().kind, ErrorKind::Tampered, "{damage:?}");

    // An administrator continues it; what was before is not proved, and still cannot be changed.
    let accepting = accepting(&db);
    let accepted =
        accepting.accept_audit_damage(make_draft(Action::AcceptAuditDamage)).await.unwrap();
    assert!(accepted.details["fault"].as_str().unwrap().len() > 10);
    let store = db.reopen();
    act(&store).await.unwrap();
    let report = store.verify_chain().await.unwrap();
    assert_eq!((report.fault, report.accepted_by), (None, Some(accepted.seq)), "{damage:?}");
    assert_eq!(report.entries, accepted.seq + 1);
    let again = accepting.accept_audit_damage(make_draft(Action::AcceptAuditDamage)).await;
    assert_eq!(again.unwrap_err().kind, ErrorKind::Conflict, "{damage:?}: nothing to accept");
    if accepted.seq > 2 {
        db.raw("UPDATE audit_entries SET reason = 'changed again' WHERE seq = 1");
        let fault = store.verify_chain().await.unwrap().fault;
        assert_eq!(
            fault,
            Some(ChainFault::Changed { seq: 1 }),
            "{damage:?}: since it was accepted"
        );
    }
}

async fn check_all(backend: Backend) {
    for damage in EndDamage::ALL {
        check(backend, damage).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_end_is_never_signed_on_sqlite() {
    check_all(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_end_is_never_signed_on_postgres() {
    check_all(Backend::Postgres).await;
}

on_both! {
    /// Damage before the last entry does not stop the next act, and the next act does not hide it.
    async fn damage_in_the_middle_stays_visible(db) {
        written(&db).await;
        let third = db.store.read(|tx| tx.audit_entries_after(2, 1)).await.unwrap().remove(0);
        db.raw("CREATE TABLE kept AS SELECT * FROM audit_entries WHERE seq = 3");
        let damages: [(&str, &dyn Fn()); 6] = [
            ("changed", &|| db.raw("UPDATE audit_entries SET reason = 'x' WHERE seq = 3")),
            ("removed", &|| db.raw("DELETE FROM audit_entries WHERE seq = 3")),
            ("doubled", &|| set_details(&db.url, &third, doubled)),
            ("spaces", &|| set_details(&db.url, &third, |text| text.replace(':', ": "))),
            ("escaped", &|| set_details(&db.url, &third, |text| text.replace("role", "rol\\u0065"))),
            ("trailing", &|| set_details(&db.url, &third, |text| format!("{text}\n"))),
        ];
        for (what, damage) in damages {
            damage();
            act(&db.store).await.unwrap();
            let fault = db.store.verify_chain().await.unwrap().fault;
            assert!(matches!(fault, Some(ChainFault::Changed { seq: 3 } | ChainFault::Missing { seq: 3 })), "{what}: {fault:?}");
            db.raw("DELETE FROM audit_entries WHERE seq = 3; INSERT INTO audit_entries SELECT * FROM kept");
            assert_eq!(db.store.verify_chain().await.unwrap().fault, None, "{what}");
        }
        // Accepted, it is proved from there on; a second change before it is found.
        db.raw("UPDATE audit_entries SET outcome = 'nonsense' WHERE seq = 3");
        let accepted = accepting(&db).accept_audit_damage(make_draft(Action::AcceptAuditDamage)).await.unwrap();
        act(&db.store).await.unwrap();
        let report = db.store.verify_chain().await.unwrap();
        assert_eq!((report.fault, report.accepted_by), (None, Some(accepted.seq)));
        db.raw("UPDATE audit_entries SET outcome = 'rubbish' WHERE seq = 3");
        assert_eq!(db.store.verify_chain().await.unwrap().fault, Some(ChainFault::Changed { seq: 3 }));
    }

    /// A head that this gateway signed earlier is not enough: this process knows a later one.
    async fn an_older_signed_head_is_noticed_while_running(db) {
        written(&db).await;
        db.raw("CREATE TABLE old_head AS SELECT * FROM audit_head");
        written(&db).await;
        db.raw("DELETE FROM audit_entries WHERE seq > 8; DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM old_head");
        assert_eq!(act(&db.reopen()).await.unwrap().seq, 9, "without a witness nobody can know");
        assert_eq!(act(&db.store).await.unwrap_err().kind, ErrorKind::Tampered);
        assert_eq!(db.store.verify_chain().await.unwrap().fault, Some(ChainFault::OlderCopy { last: 9, known: 16 }));
    }

    /// The same length, signed, but with another history.
    async fn another_history_is_noticed_while_running(db) {
        written(&db).await;
        db.raw("CREATE TABLE old_head AS SELECT * FROM audit_head; CREATE TABLE old_entries AS SELECT * FROM audit_entries");
        act(&db.store).await.unwrap();
        db.raw("DELETE FROM audit_entries WHERE seq > 8; DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM old_head");
        let other = db.reopen();
        for _ in 0..3 {
            other.write(|tx| tx.append_audit_entry(make_draft(Action::Logout))).await.unwrap();
        }
        assert_eq!(act(&db.store).await.unwrap_err().kind, ErrorKind::Tampered);
        assert_eq!(db.store.verify_chain().await.unwrap().fault, Some(ChainFault::Replaced { seq: 9 }));
    }

    /// Putting the original back does not undo that somebody was there; the gateway keeps its lease
    /// meanwhile.
    async fn the_latch_stays_when_the_damage_is_undone(db) {
        use portcullis::store::GatewayLeaseRow;
        let lease = GatewayLeaseRow { holder: "h".into(), holder_name: "n".into(), lock_id: "l".into(), acquired_at: 0, heartbeat_at: 0, heartbeats: 0 };
        assert!(db.store.write(move |tx| tx.insert_gateway_lease(&lease)).await.unwrap());
        written(&db).await;
        db.raw("UPDATE audit_entries SET reason = 'x' WHERE seq = 8");
        assert_eq!(act(&db.store).await.unwrap_err().kind, ErrorKind::Tampered);
        db.raw("UPDATE audit_entries SET reason = NULL WHERE seq = 8");
        assert_eq!(db.reopen().verify_chain().await.unwrap().fault, None, "it is as it was");
        assert_eq!(act(&db.store).await.unwrap_err().kind, ErrorKind::Tampered);
        assert!(matches!(db.store.verify_chain().await.unwrap().fault, Some(ChainFault::Latched(_))));
        assert!(db.store.renew_gateway_lease("h", NOW).await.unwrap());
        db.store.ping().await.unwrap();
    }

    /// Verifying signs nothing, also with the key.
    async fn verifying_signs_nothing(db) {
        written(&db).await;
        EndDamage::EmptiedWithEmptySignature.apply(&db.store, &db.url).await;
        let before = stored_log(&db.url);
        for purpose in [Purpose::Examine, Purpose::Use, Purpose::Accept] {
            let store = Store::open_witnessed(&db.url, purpose, Arc::new(VaultSigner(vault())), None).unwrap();
            assert!(store.verify_chain().await.unwrap().fault.is_some());
        }
        assert_eq!(stored_log(&db.url), before);
    }
}

/// SQLite keeps a value of any type in any column: it reads the same, but no filter finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_another_type_is_reported() {
    let db = Db::new(Backend::Sqlite);
    written(&db).await;
    db.raw("UPDATE audit_entries SET action = CAST(action AS BLOB) WHERE seq = 3");
    let read = db.store.read(|tx| tx.audit_entries_after(2, 1)).await.unwrap().remove(0);
    assert_eq!(read.action, "login_failed");
    act(&db.store).await.unwrap();
    assert_eq!(db.store.verify_chain().await.unwrap().fault, Some(ChainFault::Changed { seq: 3 }));
}
