//! `portcullis audit verify` on manipulated databases and exports: what was changed,
//! removed, reordered or cut off is named.

use super::{failure, run, success};
use crate::support::db::{Backend, Db, vault};
use portcullis::domain::Timestamp;
use portcullis::domain::audit::{Action, Actor, Draft, EntryTarget, Outcome};

const COLUMNS: &str = "time, organization_id, actor_id, actor_email, actor_role, action, target_type, target_id, target_name, outcome, reason, source_ip, user_agent, session_id, workspace_id, request_id, details, prev_hash, hash";

fn draft(n: i64) -> Draft {
    Draft {
        time: Timestamp(1_772_721_000_000 + n),
        organization_id: None,
        actor: Actor::default(),
        action: Action::Login,
        target: EntryTarget::default(),
        outcome: Outcome::Success,
        reason: Some(format!("number {n}")),
        source_ip: None,
        user_agent: None,
        session_id: None,
        workspace_id: None,
        request_id: None,
        details: serde_json::Map::new(),
    }
}

/// What somebody did to the database, and what the command must say.
const DAMAGES: [(&str, &str); 6] = [
    ("UPDATE audit_entries SET reason = 'innocent' WHERE seq = 3", "entry 3 was changed"),
    ("UPDATE audit_entries SET outcome = 'denied' WHERE seq = 1", "entry 1 was changed"),
    ("DELETE FROM audit_entries WHERE seq = 4", "entry 4 is missing"),
    ("DELETE FROM audit_entries WHERE seq = 1", "entry 1 is missing"),
    ("DELETE FROM audit_entries WHERE seq >= 5", "cut off"),
    ("DELETE FROM audit_entries", "cut off"),
];

fn check(backend: Backend) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let key = vault().audit_public_key();
    let written =
        || {
            let db = Db::new(backend);
            runtime
                .block_on(db.store.write(|tx| {
                    (1..=6).try_for_each(|n| tx.append_audit_entry(draft(n)).map(drop))
                }))
                .unwrap();
            db
        };
    let verify = |db: &Db| run(&["audit", "verify", "--database", &db.url, "--public-key", &key]);
    let whole = written();
    assert!(success(&verify(&whole)).starts_with("6 entries, whole and unaltered"));
    let other_key = portcullis::auth::Vault::from_master_key([8; 32]).audit_public_key();
    assert!(
        failure(&run(&["audit", "verify", "--database", &whole.url, "--public-key", &other_key]))
            .contains("signature")
    );
    let swap = format!(
        "INSERT INTO audit_entries (seq, {COLUMNS}) SELECT 100, {COLUMNS} FROM audit_entries WHERE seq = 2; DELETE FROM audit_entries WHERE seq = 2; \
         INSERT INTO audit_entries (seq, {COLUMNS}) SELECT 2, {COLUMNS} FROM audit_entries WHERE seq = 3; DELETE FROM audit_entries WHERE seq = 3; \
         INSERT INTO audit_entries (seq, {COLUMNS}) SELECT 3, {COLUMNS} FROM audit_entries WHERE seq = 100; DELETE FROM audit_entries WHERE seq = 100"
    );
    for (sql, said) in DAMAGES.into_iter().chain([(&*swap, "entry 2 was changed")]) {
        let db = written();
        db.raw(sql);
        let message = failure(&verify(&db));
        assert!(message.contains("NOT whole") && message.contains(said), "{sql}: {message}");
    }
}

#[test]
fn damage_is_named_on_sqlite() {
    check(Backend::Sqlite);
}

#[test]
fn damage_is_named_on_postgres() {
    check(Backend::Postgres);
}
