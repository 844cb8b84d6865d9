//! Entries of the audit log: rows, and what verification reads. Nothing here changes or removes an
//! entry; [`super::audit_head`] appends, [`super::audit_search`] searches.

use super::{corrupt_value, limit};
use crate::domain::audit::{Action, Actor, ActorFilter, Draft, Entry, EntryTarget, Outcome};
use crate::domain::{Error, OrganizationId, Result, Timestamp};
use crate::store::connection::AnyConnection;
use crate::store::schema::{audit_entries, audit_head};
use crate::store::transaction::Tx;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde::Serialize;

diesel::define_sql_function! {
    /// Lower case, as far as the database folds letters.
    fn lower(text: Nullable<Text>) -> Nullable<Text>;
}

/// Which entries; what is `None` does not filter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditFilter {
    pub actor: Option<ActorFilter>,
    pub action: Option<Action>,
    pub workspace_id: Option<String>,
    pub session_id: Option<String>,
    pub outcome: Option<Outcome>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// A substring of actor, target, reason or source address, in any case.
    pub q: Option<String>,
    /// Before this sequence number: the last one of the previous page.
    pub before_seq: Option<i64>,
    /// After this sequence number.
    pub after_seq: Option<i64>,
    /// Most entries.
    pub limit: usize,
}

#[derive(Queryable, Selectable, Insertable, Serialize)]
#[diesel(table_name = audit_entries, treat_none_as_default_value = false)]
pub(crate) struct AuditRow {
    pub(crate) seq: i64,
    time: i64,
    organization_id: Option<String>,
    actor_id: Option<String>,
    actor_email: Option<String>,
    actor_role: Option<String>,
    actor_type: Option<String>,
    action: String,
    target_type: Option<String>,
    target_id: Option<String>,
    target_name: Option<String>,
    outcome: String,
    reason: Option<String>,
    source_ip: Option<String>,
    user_agent: Option<String>,
    session_id: Option<String>,
    workspace_id: Option<String>,
    request_id: Option<String>,
    details: String,
    prev_hash: String,
    pub(crate) hash: String,
}

impl AuditRow {
    pub(super) fn of(entry: &Entry) -> Result<Self> {
        let entry = entry.clone();
        Ok(Self {
            seq: entry.seq,
            time: entry.time.0,
            organization_id: entry.organization_id.map(|id| id.to_string()),
            actor_id: entry.actor.id,
            actor_email: entry.actor.email,
            actor_role: entry.actor.role,
            actor_type: entry.actor.kind,
            action: entry.action,
            target_type: entry.target.kind,
            target_id: entry.target.id,
            target_name: entry.target.name,
            outcome: entry.outcome.as_str().to_owned(),
            reason: entry.reason,
            source_ip: entry.source_ip,
            user_agent: entry.user_agent,
            session_id: entry.session_id,
            workspace_id: entry.workspace_id,
            request_id: entry.request_id,
            details: serde_json::to_string(&entry.details).map_err(Error::internal)?,
            prev_hash: entry.prev_hash,
            hash: entry.hash,
        })
    }

    /// The entry, if every stored text is in the canonical spelling: another spelling of the same
    /// value would match the hash but not a filter.
    pub(crate) fn into_entry(self) -> Result<Entry> {
        let organization_id: Option<OrganizationId> =
            super::parse_optional(self.organization_id.as_deref(), "organization id")?;
        if organization_id.map(|id| id.to_string()) != self.organization_id {
            return Err(corrupt_value("organization id"));
        }
        Ok(Entry {
            seq: self.seq,
            time: Timestamp(self.time),
            organization_id,
            actor: Actor {
                id: self.actor_id,
                email: self.actor_email,
                role: self.actor_role,
                kind: self.actor_type,
            },
            action: self.action,
            target: EntryTarget {
                kind: self.target_type,
                id: self.target_id,
                name: self.target_name,
            },
            outcome: Outcome::parse(&self.outcome).ok_or_else(|| corrupt_value("outcome"))?,
            reason: self.reason,
            source_ip: self.source_ip,
            user_agent: self.user_agent,
            session_id: self.session_id,
            workspace_id: self.workspace_id,
            request_id: self.request_id,
            details: serde_json::from_str(&self.details)
                .map_err(|_| corrupt_value("list of details"))?,
            prev_hash: self.prev_hash,
            hash: self.hash,
        })
    }
}

impl AuditRow {
    /// The entry, if the stored text of its details is the one that this gateway writes. A member
    /// that is there twice, or spaces, have the same hash, but another SQL reader sees something
    /// else.
    pub(crate) fn into_canonical_entry(self) -> Result<Entry> {
        let stored = self.details.clone();
        let entry = self.into_entry()?;
        let written = serde_json::to_string(&entry.details).map_err(Error::internal)?;
        if written == stored { Ok(entry) } else { Err(corrupt_value("list of details")) }
    }

    /// Everything as it is stored.
    pub(crate) fn stored_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }
}

/// NUL cannot be stored by PostgreSQL: it is replaced by U+FFFD, on both databases.
pub(super) fn replace_nul(draft: &mut Draft) {
    let texts = [
        &mut draft.actor.id,
        &mut draft.actor.email,
        &mut draft.actor.role,
        &mut draft.actor.kind,
        &mut draft.target.kind,
        &mut draft.target.id,
        &mut draft.target.name,
        &mut draft.reason,
        &mut draft.source_ip,
        &mut draft.user_agent,
        &mut draft.session_id,
        &mut draft.workspace_id,
        &mut draft.request_id,
    ];
    for text in texts.into_iter().flatten() {
        if text.contains('\0') {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
}

/// A LIKE pattern that matches the text anywhere, with its wildcards escaped.
pub(super) fn contains_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars().filter(|c| *c != '\0') {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

impl Tx<'_> {
    /// Increases with every audited change, in this process or another.
    pub fn change_counter(&mut self) -> Result<i64> {
        Ok(audit_head::table.find(1).select(audit_head::seq).first(self.conn)?)
    }

    /// Entries of the whole log after a sequence number, oldest first.
    pub fn audit_entries_after(&mut self, seq: i64, count: usize) -> Result<Vec<Entry>> {
        self.audit_rows(seq, i64::MAX, count)?.into_iter().map(AuditRow::into_entry).collect()
    }

    /// Rows after one sequence number and up to another, oldest first.
    pub(crate) fn audit_rows(
        &mut self,
        after: i64,
        up_to: i64,
        count: usize,
    ) -> Result<Vec<AuditRow>> {
        let query = audit_entries::table
            .filter(audit_entries::seq.gt(after))
            .filter(audit_entries::seq.le(up_to))
            .order(audit_entries::seq)
            .limit(limit(count));
        Ok(query.select(AuditRow::as_select()).load(self.conn)?)
    }

    /// The first row of a range with a value of another type than its column's, which only SQLite
    /// allows: it reads the same, but no filter finds it. `None` as end: all further rows, which are
    /// those with a number that is none.
    pub(crate) fn mistyped_audit_row(
        &mut self,
        from: i64,
        before: Option<i64>,
    ) -> Result<Option<i64>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Nullable<BigInt>)]
            seq: Option<i64>,
        }
        let AnyConnection::Sqlite(conn) = &mut *self.conn else { return Ok(None) };
        let texts = "organization_id actor_id actor_email actor_role actor_type action target_type target_id target_name outcome reason source_ip \
            user_agent session_id workspace_id request_id details prev_hash hash";
        let mistyped: Vec<String> = texts
            .split_whitespace()
            .map(|column| format!("typeof({column}) NOT IN ('text', 'null')"))
            .collect();
        let end = if before.is_some() { "seq < $2" } else { "$2 IS NULL" };
        let query = format!(
            "SELECT min(seq) AS seq FROM audit_entries WHERE seq >= $1 AND {end} AND (typeof(seq) <> 'integer' OR typeof(time) <> 'integer' OR {})",
            mistyped.join(" OR ")
        );
        let row: Row = diesel::sql_query(query)
            .bind::<BigInt, _>(from)
            .bind::<Nullable<BigInt>, _>(before)
            .get_result(conn)?;
        Ok(row.seq)
    }

    /// Sequence numbers of the first and the last entry.
    pub(crate) fn audit_seq_range(&mut self) -> Result<Option<(i64, i64)>> {
        let first: Option<i64> = audit_entries::table
            .select(audit_entries::seq)
            .order(audit_entries::seq)
            .first(self.conn)
            .optional()?;
        let last: Option<i64> = audit_entries::table
            .select(audit_entries::seq)
            .order(audit_entries::seq.desc())
            .first(self.conn)
            .optional()?;
        Ok(first.zip(last))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn wildcards_in_patterns_are_escaped() {
        assert_eq!(super::contains_pattern("50%_A!"), "%50!%!_a!!%");
    }
}
