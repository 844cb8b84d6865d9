//! What somebody who can write to the database, and has no key, can do to the audit log.

use diesel::connection::SimpleConnection as _;
use portcullis::auth::Vault;
use portcullis::domain::audit::{Entry, GENESIS, Head};
use portcullis::store::Store;
use portcullis::store::connection::{AccessMode, AnyConnection, DatabaseLocation};

/// Runs SQL on a database.
pub fn sql(url: &str, text: &str) {
    open(url).batch_execute(text).unwrap();
}

fn open(url: &str) -> AnyConnection {
    DatabaseLocation::parse(url).unwrap().open(AccessMode::Write).unwrap()
}

/// Damage of the end of the log: the next act must notice it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndDamage {
    LastEntryChanged,
    LastEntryRemoved,
    /// The two before the last are removed; the rest is renumbered and hashed again.
    RenumberedAndRehashed,
    TailCutAndHeadRewritten,
    EmptiedWithEmptySignature,
    EmptiedWithoutHead,
    DuplicateKeyInDetails,
    SpacesInDetails,
    SignedByAnotherKey,
    EntryAfterTheHead,
    HeadMissing,
    HeadAtTheLargestNumber,
}

impl EndDamage {
    pub const ALL: [Self; 12] = [
        Self::LastEntryChanged,
        Self::LastEntryRemoved,
        Self::RenumberedAndRehashed,
        Self::TailCutAndHeadRewritten,
        Self::EmptiedWithEmptySignature,
        Self::EmptiedWithoutHead,
        Self::DuplicateKeyInDetails,
        Self::SpacesInDetails,
        Self::SignedByAnotherKey,
        Self::EntryAfterTheHead,
        Self::HeadMissing,
        Self::HeadAtTheLargestNumber,
    ];

    /// Does it to the database of a store, whose log has six entries at least.
    pub async fn apply(self, store: &Store, url: &str) {
        let entries = store.read(|tx| tx.audit_entries_after(0, 10_000)).await.unwrap();
        let last = entries.last().unwrap().clone();
        let seq = last.seq;
        match self {
            Self::LastEntryChanged => sql(
                url,
                &format!(
                    "UPDATE audit_entries SET actor_email = 'mallory@example.com' WHERE seq = {seq}"
                ),
            ),
            Self::LastEntryRemoved => {
                sql(url, &format!("DELETE FROM audit_entries WHERE seq = {seq}"));
            }
            Self::RenumberedAndRehashed => rehash(url, entries, &[seq - 2, seq - 1]),
            Self::TailCutAndHeadRewritten => {
                let kept = &entries[entries.len() - 3];
                sql(
                    url,
                    &format!(
                        "DELETE FROM audit_entries WHERE seq > {}; UPDATE audit_head SET seq = {}, hash = '{}'",
                        kept.seq, kept.seq, kept.hash
                    ),
                );
            }
            Self::EmptiedWithEmptySignature => sql(
                url,
                &format!(
                    "DELETE FROM audit_entries; UPDATE audit_head SET seq = 0, hash = '{GENESIS}', signature = ''"
                ),
            ),
            Self::EmptiedWithoutHead => {
                sql(url, "DELETE FROM audit_entries; DELETE FROM audit_head")
            }
            Self::DuplicateKeyInDetails => set_details(url, &last, doubled),
            Self::SpacesInDetails => set_details(url, &last, |text| format!(" {text} ")),
            Self::SignedByAnotherKey => {
                let text = Head::signed_text(seq, &last.hash);
                let signature = Vault::from_master_key([9; 32]).sign_head(&text);
                sql(url, &format!("UPDATE audit_head SET signature = '{signature}'"));
            }
            Self::EntryAfterTheHead => append_unsigned(url, &last),
            Self::HeadMissing => sql(url, "DELETE FROM audit_head"),
            Self::HeadAtTheLargestNumber => {
                sql(url, &format!("UPDATE audit_head SET seq = {}", i64::MAX));
            }
        }
    }
}

/// The first member twice: the last one counts, and has the value that was hashed.
pub fn doubled(details: &str) -> String {
    let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(details).unwrap();
    match value.keys().next() {
        Some(name) => format!("{{\"{name}\":\"forged\",{}", &details[1..]),
        None => panic!("no details to double"),
    }
}

/// Changes the stored text of an entry's details to one that reads the same.
pub fn set_details(url: &str, entry: &Entry, change: impl Fn(&str) -> String) {
    let text = serde_json::to_string(&entry.details).unwrap();
    let changed = change(&text);
    assert_ne!(changed, text);
    let parsed: serde_json::Value = serde_json::from_str(&changed).unwrap();
    assert_eq!(parsed.as_object(), Some(&entry.details), "it reads the same");
    sql(url, &format!("UPDATE audit_entries SET details = '{changed}' WHERE seq = {}", entry.seq));
}

/// Removes entries, accuses somebody else, numbers and hashes the rest again, and moves the head,
/// whose signature stays as it is.
fn rehash(url: &str, entries: Vec<Entry>, removed: &[i64]) {
    let mut commands = String::new();
    for seq in removed {
        commands.push_str(&format!("DELETE FROM audit_entries WHERE seq = {seq};"));
    }
    let (mut seq, mut prev_hash) = (0, GENESIS.to_owned());
    for mut entry in entries.into_iter().filter(|entry| !removed.contains(&entry.seq)) {
        let old = entry.seq;
        seq += 1;
        entry.seq = seq;
        entry.prev_hash.clone_from(&prev_hash);
        if seq == 2 {
            entry.actor.email = Some("mallory@example.com".to_owned());
            commands.push_str(
                "UPDATE audit_entries SET actor_email = 'mallory@example.com' WHERE seq = 2;",
            );
        }
        entry.hash = entry.computed_hash();
        prev_hash.clone_from(&entry.hash);
        commands.push_str(&format!(
            "UPDATE audit_entries SET seq = {seq}, prev_hash = '{}', hash = '{}' WHERE seq = {old};",
            entry.prev_hash, entry.hash
        ));
    }
    commands.push_str(&format!("UPDATE audit_head SET seq = {seq}, hash = '{prev_hash}'"));
    sql(url, &commands);
}

/// A correctly chained entry, for which no key is needed.
fn append_unsigned(url: &str, last: &Entry) {
    let mut forged = last.clone();
    forged.seq += 1;
    forged.prev_hash.clone_from(&last.hash);
    forged.hash = forged.computed_hash();
    let columns = "time, organization_id, actor_id, actor_email, actor_role, actor_type, action, target_type, target_id, target_name, outcome, reason, source_ip, \
        user_agent, session_id, workspace_id, request_id, details";
    sql(
        url,
        &format!(
            "INSERT INTO audit_entries (seq, {columns}, prev_hash, hash) SELECT {}, {columns}, '{}', '{}' FROM audit_entries WHERE seq = {}",
            forged.seq, forged.prev_hash, forged.hash, last.seq
        ),
    );
}

/// The log as it is stored, to compare.
pub fn stored_log(url: &str) -> Vec<String> {
    use diesel::RunQueryDsl as _;
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        text: String,
    }
    let rows = "SELECT seq || ' ' || hash || ' ' || details AS text FROM audit_entries UNION ALL SELECT 'head ' || seq || ' ' || hash || ' ' || signature FROM audit_head";
    let mut rows: Vec<Row> = diesel::sql_query(rows).load(&mut open(url)).unwrap();
    rows.sort_by(|a, b| a.text.cmp(&b.text));
    rows.into_iter().map(|row| row.text).collect()
}
