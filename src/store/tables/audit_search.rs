//! Search of the audit log, newest first, a bounded number of rows at a time.
//!
//! | term | meaning |
//! | --- | --- |
//! | candidate | an entry that the index of one compared column leads to |
//! | window | [`WINDOW`] candidates: what one statement reads |
//! | block | the entries of [`WINDOW`] consecutive numbers, with the span of their times |

use super::audit::{AuditRow, contains_pattern, lower};
use super::limit;
use crate::domain::audit::{ActorFilter, Entry};
use crate::domain::{OrganizationId, Result, Timestamp};
use crate::store::connection::MultiBackend;
use crate::store::schema::audit_entries as a;
use crate::store::search::{SearchTx, WINDOW};
use crate::store::tables::audit::AuditFilter;
use diesel::dsl::{max, min};
use diesel::prelude::*;

/// What one step of a search found.
#[derive(Debug)]
pub struct AuditWindow {
    pub entries: Vec<Entry>,
    /// The search goes on with the entries before this one; `None`: there are no more.
    pub next: Option<i64>,
}

/// A compared column that has an index in the order of the log.
#[derive(Clone, Copy)]
enum Column<'f> {
    Session(&'f str),
    Actor(&'f str),
    Email(&'f str),
    Workspace(&'f str),
    Action(&'f str),
    Outcome(&'f str),
    Organization(&'f str),
}

type Query<'q, T> = a::BoxedQuery<'q, MultiBackend, T>;

impl Column<'_> {
    /// Selects by the index.
    fn seek<T>(self, query: Query<'_, T>) -> Query<'_, T> {
        match self {
            Self::Session(id) => query.filter(a::session_id.eq(id.to_owned())),
            Self::Actor(id) => query.filter(a::actor_id.eq(id.to_owned())),
            Self::Email(email) => query.filter(lower(a::actor_email).eq(email.to_owned())),
            Self::Workspace(id) => query.filter(a::workspace_id.eq(id.to_owned())),
            Self::Action(word) => query.filter(a::action.eq(word.to_owned())),
            Self::Outcome(word) => query.filter(a::outcome.eq(word.to_owned())),
            Self::Organization(id) => query.filter(a::organization_id.eq(id.to_owned())),
        }
    }

    /// Compares the value of a candidate. An expression has no index: neither database can prefer
    /// this one to that of the window, which bounds what is read.
    fn compare<T>(self, query: Query<'_, T>) -> Query<'_, T> {
        match self {
            Self::Session(id) => query.filter(a::session_id.concat("").eq(id.to_owned())),
            Self::Actor(id) => query.filter(a::actor_id.concat("").eq(id.to_owned())),
            Self::Email(email) => {
                query.filter(lower(a::actor_email).concat("").eq(email.to_owned()))
            }
            Self::Workspace(id) => query.filter(a::workspace_id.concat("").eq(id.to_owned())),
            Self::Action(word) => query.filter(a::action.concat("").eq(word.to_owned())),
            Self::Outcome(word) => query.filter(a::outcome.concat("").eq(word.to_owned())),
            Self::Organization(id) => query.filter(a::organization_id.concat("").eq(id.to_owned())),
        }
    }
}

/// The texts that the columns are compared with. PostgreSQL has no text with NUL.
struct Texts {
    actor: Option<(bool, String)>,
    workspace: Option<String>,
    session: Option<String>,
    organization: Option<String>,
}

impl Texts {
    fn of(organization: Option<OrganizationId>, filter: &AuditFilter) -> Self {
        let stored = |text: &String| text.replace('\0', "");
        Self {
            actor: filter.actor.as_ref().map(|actor| match actor {
                ActorFilter::Id(id) => (false, id.hyphenated().to_string()),
                ActorFilter::Email(email) => (true, email.to_lowercase().replace('\0', "")),
            }),
            workspace: filter.workspace_id.as_ref().map(stored),
            session: filter.session_id.as_ref().map(stored),
            organization: organization.map(|id| id.to_string()),
        }
    }

    fn columns<'f>(&'f self, filter: &'f AuditFilter) -> Vec<Column<'f>> {
        let actor = self.actor.as_ref().map(|(is_email, text)| match is_email {
            true => Column::Email(text),
            false => Column::Actor(text),
        });
        [
            self.session.as_deref().map(Column::Session),
            actor,
            self.workspace.as_deref().map(Column::Workspace),
            filter.action.map(|action| Column::Action(action.as_str())),
            filter.outcome.map(|outcome| Column::Outcome(outcome.as_str())),
            self.organization.as_deref().map(Column::Organization),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Where a window lies.
struct Window<'f> {
    /// The column whose index it follows; `None`: the log itself.
    column: Option<Column<'f>>,
    /// Its last candidate; `None`: the first entries of the log are within it.
    low: Option<i64>,
}

impl SearchTx<'_, '_> {
    /// The next entries of an organization, or of all and of none, newest first. The window may
    /// have none that fits: only without [`AuditWindow::next`] is the log at its end.
    pub fn audit_window(
        &mut self,
        organization: Option<OrganizationId>,
        filter: &AuditFilter,
    ) -> Result<AuditWindow> {
        let after = filter.after_seq.unwrap_or(i64::MIN);
        let mut before = filter.before_seq.unwrap_or(i64::MAX);
        if filter.from.is_some() || filter.to.is_some() {
            match self.skip_blocks(filter, before)? {
                Some((at, true)) => before = at,
                Some((at, false)) if at > after => {
                    return Ok(AuditWindow { entries: Vec::new(), next: Some(at) });
                }
                Some((_, false)) | None => {
                    return Ok(AuditWindow { entries: Vec::new(), next: None });
                }
            }
        }
        let texts = Texts::of(organization, filter);
        let columns = texts.columns(filter);
        let text = filter.q.as_deref().map(str::trim).filter(|q| !q.is_empty());
        let compares = text.is_some() || filter.from.is_some() || filter.to.is_some();
        let window = match columns.as_slice() {
            // Every candidate fits: the page's own limit bounds what is read.
            [] | [_] if !compares => Window { column: columns.first().copied(), low: None },
            columns => self.rarest(columns, after, before)?,
        };
        let mut query = a::table
            .select(AuditRow::as_select())
            .filter(a::seq.gt(after.max(window.low.map_or(after, |low| low - 1))))
            .filter(a::seq.lt(before))
            .order(a::seq.desc())
            .limit(limit(filter.limit))
            .into_boxed::<MultiBackend>();
        let sought = window.column.map(|column| std::mem::discriminant(&column));
        for column in columns {
            query = if Some(std::mem::discriminant(&column)) == sought {
                column.seek(query)
            } else {
                column.compare(query)
            };
        }
        if let Some(from) = filter.from {
            query = query.filter((a::time + 0).ge(from.0));
        }
        if let Some(to) = filter.to {
            query = query.filter((a::time + 0).lt(to.0));
        }
        if let Some(text) = text {
            let pattern = contains_pattern(text);
            query = query.filter(
                lower(a::actor_email)
                    .like(pattern.clone())
                    .escape('!')
                    .or(lower(a::target_name).like(pattern.clone()).escape('!'))
                    .or(lower(a::target_id).like(pattern.clone()).escape('!'))
                    .or(lower(a::reason).like(pattern.clone()).escape('!'))
                    .or(lower(a::source_ip).like(pattern).escape('!')),
            );
        }
        let rows: Vec<AuditRow> = query.load(self.conn)?;
        let next =
            if rows.len() >= filter.limit { rows.last().map(|row| row.seq) } else { window.low };
        let entries = rows.into_iter().map(AuditRow::into_entry).collect::<Result<_>>()?;
        Ok(AuditWindow { entries, next: next.filter(|at| *at > after) })
    }

    /// The newest entry's number; 0: there is none.
    pub fn newest_audit_seq(&mut self) -> Result<i64> {
        Ok(self.audit_seq_range()?.map_or(0, |(_, last)| last))
    }

    /// The time of the first entry that is not before this number.
    pub fn audit_time_at(&mut self, seq: i64) -> Result<Option<Timestamp>> {
        let time = a::table.select(a::time).filter(a::seq.ge(seq)).order(a::seq);
        let time: Option<i64> = time.first(self.conn).optional()?;
        Ok(time.map(Timestamp))
    }

    /// The window that reaches furthest back: its column has the rarest value.
    fn rarest<'f>(
        &mut self,
        columns: &[Column<'f>],
        after: i64,
        before: i64,
    ) -> Result<Window<'f>> {
        if columns.is_empty() {
            return Ok(Window { column: None, low: self.window_end(None, after, before)? });
        }
        let mut rarest: Option<Window<'f>> = None;
        for column in columns {
            let low = self.window_end(Some(*column), after, before)?;
            if rarest.as_ref().is_none_or(|rarest| low < rarest.low) {
                rarest = Some(Window { column: Some(*column), low });
            }
            if low.is_none() {
                break;
            }
        }
        Ok(rarest.unwrap_or(Window { column: None, low: None }))
    }

    /// The last of [`WINDOW`] candidates; `None` when there are fewer.
    fn window_end(
        &mut self,
        column: Option<Column<'_>>,
        after: i64,
        before: i64,
    ) -> Result<Option<i64>> {
        let query = a::table
            .select(a::seq)
            .filter(a::seq.gt(after))
            .filter(a::seq.lt(before))
            .order(a::seq.desc())
            .offset(limit(WINDOW - 1))
            .limit(1)
            .into_boxed::<MultiBackend>();
        let query = match column {
            Some(column) => column.seek(query),
            None => query,
        };
        Ok(query.first(self.conn).optional()?)
    }

    /// Skips blocks without an entry of the filter's dates. True: the block before this number may
    /// have one. False: nothing is known yet of the entries before it. `None`: there are none.
    fn skip_blocks(&mut self, filter: &AuditFilter, before: i64) -> Result<Option<(i64, bool)>> {
        let block_size = limit(WINDOW);
        let Some((first, last)) = self.audit_seq_range()? else { return Ok(None) };
        let mut before = before.min(last.saturating_add(1));
        let mut has_read = false;
        while before > first {
            let block = (before - 1).div_euclid(block_size);
            let start = block * block_size;
            let span = match self.spans.get(block) {
                Some(span) => Some(span),
                // One block of a statement's rows for each step.
                None if has_read => return Ok(Some((before, false))),
                None => {
                    has_read = true;
                    self.read_span(block, start, last)?
                }
            };
            let fits = span.is_some_and(|(earliest, latest)| {
                filter.from.is_none_or(|from| latest >= from.0)
                    && filter.to.is_none_or(|to| earliest < to.0)
            });
            if fits {
                return Ok(Some((before, true)));
            }
            before = start;
        }
        Ok(None)
    }

    fn read_span(&mut self, block: i64, start: i64, last: i64) -> Result<Option<(i64, i64)>> {
        let end = start.saturating_add(limit(WINDOW));
        let span: (Option<i64>, Option<i64>) = a::table
            .filter(a::seq.ge(start))
            .filter(a::seq.lt(end))
            .select((min(a::time + 0), max(a::time + 0)))
            .first(self.conn)?;
        let span = span.0.zip(span.1);
        if let Some(span) = span.filter(|_| end <= last) {
            self.spans.insert(block, span);
        }
        Ok(span)
    }
}
