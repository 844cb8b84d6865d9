//! `portcullis audit verify` on manipulated databases and exports: what was changed,
//! removed, reordered or cut off is named.

use super::{failure, run, success};
use crate::product::command;
use crate::support::db::{Backend, Db, VaultSigner, empty_database, vault};
use crate::support::forge::{EndDamage, sql};
use portcullis::domain::Timestamp;
use portcullis::domain::audit::{Action, Actor, Draft, EntryTarget, Outcome};
use portcullis::store::Store;
use std::process::{Output, Stdio};
use std::sync::Arc;

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

/// A gateway's data folder with a database elsewhere, worked on from the command line.
struct Folder {
    dir: tempfile::TempDir,
    url: String,
}

impl Folder {
    /// With a log of some acts.
    fn written(url: &str) -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap(), url: url.to_owned() };
        for n in 0..4 {
            success(&folder.act(n));
        }
        folder
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = command(arguments);
        command
            .env("PORTCULLIS_DATABASE__URL", &self.url)
            .env("PORTCULLIS_SERVER__DATA_DIR", self.dir.path())
            .env("PORTCULLIS_SERVER__LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS_TUNNEL__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    fn act(&self, n: u32) -> Output {
        self.run(&["user", "create", &format!("u{n}@example.org"), "--generate"])
    }

    fn verify(&self) -> Output {
        self.run(&["audit", "verify"])
    }

    /// Reads only, with the witness's file apart.
    fn store(&self) -> Store {
        Store::open_with(&self.url, Arc::new(VaultSigner(vault()))).unwrap()
    }
}

fn damage_then_act_then_verify(backend: Backend) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for damage in EndDamage::ALL {
        let database = empty_database(backend);
        let folder = Folder::written(&database.url);
        assert!(success(&folder.verify()).contains("whole and unaltered"));
        runtime.block_on(damage.apply(&folder.store(), &folder.url));
        // The command that verifies, before and after one more act.
        assert!(failure(&folder.verify()).contains("NOT whole"), "{damage:?}");
        for n in 10..12 {
            let refused = failure(&folder.act(n));
            assert!(refused.contains("altered from outside"), "{damage:?}: {refused}");
            assert!(refused.contains("portcullis audit accept-damage"), "{damage:?}: {refused}");
        }
        let verdict = failure(&folder.verify());
        assert!(verdict.contains("NOT whole"), "{damage:?}: {verdict}");
        // Until an administrator acts.
        let said = success(&folder.run(&["audit", "accept-damage"]));
        assert!(said.contains("continues from entry"), "{damage:?}: {said}");
        success(&folder.act(20));
        let verdict = success(&folder.verify());
        assert!(verdict.contains("Nothing before entry"), "{damage:?}: {verdict}");
        let key = success(&folder.run(&["audit", "public-key"]));
        let export = folder.dir.path().join("export.jsonl");
        let path = export.to_str().unwrap();
        success(&folder.run(&["audit", "export", "--output", path]));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("\"action\":\"accept_audit_damage\""), "{damage:?}");
        let proved =
            success(&run(&["audit", "verify", "--export", path, "--public-key", key.trim()]));
        assert!(proved.contains("Nothing before entry"), "{damage:?}: {proved}");
        assert!(failure(&folder.run(&["audit", "accept-damage"])).contains("nothing to accept"));
    }
}

#[test]
fn damage_and_one_more_act_on_sqlite() {
    damage_then_act_then_verify(Backend::Sqlite);
}

#[test]
fn damage_and_one_more_act_on_postgres() {
    damage_then_act_then_verify(Backend::Postgres);
}

fn an_older_copy_and_an_empty_database_are_refused(backend: Backend) {
    let database = empty_database(backend);
    let mut folder = Folder::written(&database.url);
    sql(&folder.url, "CREATE TABLE old_head AS SELECT * FROM audit_head");
    success(&folder.act(10));
    sql(
        &folder.url,
        "DELETE FROM audit_entries WHERE seq > (SELECT seq FROM old_head); DELETE FROM audit_head; INSERT INTO audit_head SELECT * FROM old_head",
    );
    assert!(failure(&folder.verify()).contains("older copy"));
    assert!(failure(&folder.act(11)).contains("older copy"));
    assert!(failure(&folder.run(&["serve"])).contains("older copy"));
    success(&folder.run(&["audit", "accept-damage"]));
    success(&folder.act(12));
    success(&folder.verify());

    let empty = empty_database(backend);
    folder.url.clone_from(&empty.url);
    for arguments in [&["user", "list"][..], &["serve"], &["audit", "verify"]] {
        let refused = failure(&folder.run(arguments));
        assert!(refused.contains("it is empty"), "{arguments:?}: {refused}");
    }
    folder.url.clone_from(&database.url);
    success(&folder.act(13));
}

#[test]
fn an_older_copy_is_refused_on_sqlite() {
    an_older_copy_and_an_empty_database_are_refused(Backend::Sqlite);
}

#[test]
fn an_older_copy_is_refused_on_postgres() {
    an_older_copy_and_an_empty_database_are_refused(Backend::Postgres);
}

#[test]
fn a_missing_file_is_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.db");
    let folder = Folder::written(&format!("sqlite:{}", file.display()));
    let kept = dir.path().join("kept.db");
    std::fs::rename(&file, &kept).unwrap();
    for arguments in [&["user", "list"][..], &["serve"], &["audit", "verify"]] {
        let refused = failure(&folder.run(arguments));
        assert!(
            refused.contains("missing") || refused.contains("there is no database"),
            "{refused}"
        );
        assert!(!file.exists(), "{arguments:?} made another one");
    }
    std::fs::rename(&kept, &file).unwrap();
    success(&folder.act(10));
    // To begin anew is an act, which is the first entry.
    std::fs::remove_file(&file).unwrap();
    success(&folder.run(&["audit", "accept-damage"]));
    success(&folder.act(11));
    assert!(success(&folder.verify()).contains("Nothing before entry 1 is proved"));
}
