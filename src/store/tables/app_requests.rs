//! Requests to web applications. Rows are only added.

use super::audit::{contains_pattern, lower};
use super::{corrupt_value, limit};
use crate::domain::web_app::{RequestOutcome, RequestRecord, StatusFilter};
use crate::domain::{Result, SessionId, Timestamp};
use crate::store::connection::AnyConnection;
use crate::store::schema::{app_request_counts, app_requests};
use crate::store::search::{SearchTx, WINDOW};
use crate::store::transaction::Tx;
use diesel::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

/// Longest stored path, in bytes.
pub const MAX_PATH_BYTES: usize = 512;
/// Longest stored method, in bytes.
pub const MAX_METHOD_BYTES: usize = 32;

/// Which of a session's requests; the default selects all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestFilter {
    pub method: Option<String>,
    /// A substring of the path.
    pub path: Option<String>,
    pub status: Option<StatusFilter>,
    pub outcome: Option<RequestOutcome>,
}

/// What one step of a search found.
#[derive(Debug)]
pub struct RequestWindow {
    /// Newest first, each with its sequence number.
    pub requests: Vec<(i64, RequestRecord)>,
    /// The search goes on with the requests before this one; `None`: there are no more.
    pub next: Option<i64>,
}

/// Rows per statement: each has ten of the 32,766 values that SQLite accepts in one statement, and
/// of PostgreSQL's 65,535.
const ROWS_PER_INSERT: usize = 512;

#[derive(Queryable, Selectable)]
#[diesel(table_name = app_requests)]
struct Row {
    seq: i64,
    at: i64,
    method: String,
    path: String,
    status: i32,
    bytes_in: i64,
    bytes_out: i64,
    duration_ms: i64,
    ended: String,
}

/// A row to insert. It borrows, since thousands are inserted at once.
#[derive(Insertable)]
// Without default values, which SQLite does not support in a list of rows: diesel would insert them
// one by one.
#[diesel(table_name = app_requests, treat_none_as_default_value = false)]
struct NewRow<'a> {
    session_id: &'a str,
    seq: i64,
    at: i64,
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    status: i32,
    bytes_in: i64,
    bytes_out: i64,
    duration_ms: i64,
    ended: &'static str,
}

/// The longest prefix of `text` of at most `max` bytes, without NUL, which PostgreSQL cannot store.
fn truncated(text: &str, max: usize) -> Cow<'_, str> {
    let text = &text[..text.floor_char_boundary(max)];
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

fn to_bigint(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl<'a> NewRow<'a> {
    fn of(session: &'a str, seq: i64, record: &'a RequestRecord) -> Self {
        Self {
            session_id: session,
            seq,
            at: record.at.0,
            method: truncated(&record.method, MAX_METHOD_BYTES),
            path: truncated(&record.path, MAX_PATH_BYTES),
            status: i32::from(record.status),
            bytes_in: to_bigint(record.bytes_in),
            bytes_out: to_bigint(record.bytes_out),
            duration_ms: i64::try_from(record.duration.as_millis()).unwrap_or(i64::MAX),
            ended: record.outcome.as_str(),
        }
    }
}

impl Row {
    fn into_record(self) -> Result<(i64, RequestRecord)> {
        let count = |n: i64| u64::try_from(n).map_err(|_| corrupt_value("number of bytes"));
        let record = RequestRecord {
            at: Timestamp(self.at),
            method: self.method,
            path: self.path,
            status: u16::try_from(self.status).map_err(|_| corrupt_value("status of a request"))?,
            bytes_in: count(self.bytes_in)?,
            bytes_out: count(self.bytes_out)?,
            duration: Duration::from_millis(count(self.duration_ms)?),
            outcome: RequestOutcome::parse(&self.ended)
                .ok_or_else(|| corrupt_value("end of a request"))?,
        };
        Ok((self.seq, record))
    }
}

impl Tx<'_> {
    /// Appends requests to a session's, in their order.
    pub fn add_app_requests(
        &mut self,
        session: SessionId,
        records: &[RequestRecord],
    ) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let key = session.to_string();
        let last = self.reserve_seqs(&key, i64::try_from(records.len()).unwrap_or(i64::MAX))?;
        let first = last - i64::try_from(records.len()).unwrap_or(i64::MAX) + 1;
        let mut seqs = first..;
        for part in records.chunks(ROWS_PER_INSERT) {
            let rows: Vec<NewRow<'_>> = part
                .iter()
                .zip(seqs.by_ref())
                .map(|(record, seq)| NewRow::of(&key, seq, record))
                .collect();
            // A list of rows cannot be inserted over the enum of both backends.
            match self.conn {
                AnyConnection::Sqlite(conn) => {
                    diesel::insert_into(app_requests::table).values(rows).execute(conn)?
                }
                AnyConnection::Postgres(conn) => {
                    diesel::insert_into(app_requests::table).values(rows).execute(conn)?
                }
            };
        }
        Ok(())
    }

    /// Reserves the next sequence numbers of a session and returns the last of them. A concurrent
    /// transaction waits.
    fn reserve_seqs(&mut self, session: &str, many: i64) -> Result<i64> {
        use app_request_counts as counts;
        if let Some(last) = self.advance_count(session, many)? {
            return Ok(last);
        }
        let fresh = (counts::session_id.eq(session), counts::last_seq.eq(0));
        match self.savepoint(|conn| diesel::insert_into(counts::table).values(fresh).execute(conn))
        {
            // A concurrent transaction created it.
            Ok(_)
            | Err(diesel::result::Error::DatabaseError(
                diesel::result::DatabaseErrorKind::UniqueViolation,
                _,
            )) => {}
            Err(failed) => return Err(failed.into()),
        }
        self.advance_count(session, many)?.ok_or_else(|| corrupt_value("count of requests"))
    }

    fn advance_count(&mut self, session: &str, by: i64) -> Result<Option<i64>> {
        use app_request_counts as counts;
        let moved = diesel::update(counts::table.find(session))
            .set(counts::last_seq.eq(counts::last_seq + by));
        Ok(moved.returning(counts::last_seq).get_result(self.conn).optional()?)
    }

    /// Requests of a session before a sequence number, newest first, each with its own.
    pub fn app_requests(
        &mut self,
        session: SessionId,
        before: Option<i64>,
        count: usize,
    ) -> Result<Vec<(i64, RequestRecord)>> {
        let all = i64::MIN..before.unwrap_or(i64::MAX);
        self.app_requests_within(session, &RequestFilter::default(), all, count)
    }

    /// Those of a range of sequence numbers, filtered. A session's rows are adjacent.
    fn app_requests_within(
        &mut self,
        session: SessionId,
        filter: &RequestFilter,
        seqs: Range<i64>,
        count: usize,
    ) -> Result<Vec<(i64, RequestRecord)>> {
        let mut query = app_requests::table
            .filter(app_requests::session_id.eq(session.to_string()))
            .filter(app_requests::seq.ge(seqs.start))
            .filter(app_requests::seq.lt(seqs.end))
            .order(app_requests::seq.desc())
            .limit(limit(count))
            .select(Row::as_select())
            .into_boxed();
        if let Some(method) = &filter.method {
            query = query.filter(app_requests::method.eq(method.clone()));
        }
        if let Some(path) = &filter.path {
            query = query.filter(
                lower(app_requests::path.nullable()).like(contains_pattern(path)).escape('!'),
            );
        }
        if let Some(status) = filter.status {
            let (least, most) = status.range();
            query = query.filter(app_requests::status.between(i32::from(least), i32::from(most)));
        }
        if let Some(ended) = filter.outcome {
            query = query.filter(app_requests::ended.eq(ended.as_str()));
        }
        let rows: Vec<Row> = query.load(self.conn)?;
        rows.into_iter().map(Row::into_record).collect()
    }
}

impl SearchTx<'_, '_> {
    /// The number of a session's newest request; 0: there is none.
    pub fn newest_app_request(&mut self, session: SessionId) -> Result<i64> {
        use app_request_counts as counts;
        let last = counts::table.find(session.to_string()).select(counts::last_seq);
        let last: Option<i64> = last.first(self.conn).optional()?;
        Ok(last.unwrap_or(0))
    }

    /// The next requests of a session that a filter selects, newest first: of those between two
    /// sequence numbers the last [`WINDOW`].
    pub fn app_request_window(
        &mut self,
        session: SessionId,
        filter: &RequestFilter,
        between: Range<i64>,
        count: usize,
    ) -> Result<RequestWindow> {
        let first = between.start.saturating_add(1);
        let start = between.end.saturating_sub(limit(WINDOW)).max(first);
        let requests = self.app_requests_within(session, filter, start..between.end, count)?;
        let next = match requests.last() {
            Some((seq, _)) if requests.len() >= count => *seq,
            Some(_) | None => start,
        };
        Ok(RequestWindow { requests, next: Some(next).filter(|at| *at > first) })
    }

    /// When a request started.
    pub fn app_request_time(&mut self, session: SessionId, seq: i64) -> Result<Option<Timestamp>> {
        let row = app_requests::table.find((session.to_string(), seq)).select(app_requests::at);
        let at: Option<i64> = row.first(self.conn).optional()?;
        Ok(at.map(Timestamp))
    }
}
