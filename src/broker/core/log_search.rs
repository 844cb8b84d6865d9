//! Search of a log, step by step within a time limit; and how many searches one principal may have.
//!
//! A step is one statement of the store, which reads a bounded number of rows. Between two steps the
//! connection is given back, so that searches take turns, and a search whose client has left ends.

use crate::broker::model::SearchPage;
use crate::domain::principal::PrincipalId;
use crate::domain::sync::lock;
use crate::domain::{Error, ErrorKind, Result, Timestamp};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Limits of searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchLimits {
    /// Time after which a search answers with what it has found (default 2 s).
    pub budget: Duration,
    /// Searches of one principal at once, and as many exports and verifications (default 2).
    pub per_user: usize,
    /// Further ones that wait for a slot, in order (default 4).
    pub waiting_per_user: usize,
}

impl Default for SearchLimits {
    fn default() -> Self {
        Self { budget: Duration::from_secs(2), per_user: 2, waiting_per_user: 4 }
    }
}

/// Longest wait for a slot.
const SLOT_TIMEOUT: Duration = Duration::from_secs(10);
/// When a refused search may be tried again: about the time limit of a search.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Kinds that do not take each other's slots: an export lasts as long as its download.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::broker) enum SearchKind {
    Query,
    Export,
    Verification,
}

type Key = (PrincipalId, SearchKind);

/// The searches of each principal: some run, few wait in order, further ones are refused.
#[derive(Clone)]
pub(in crate::broker) struct SearchSlots {
    limits: SearchLimits,
    claims: Arc<Mutex<HashMap<Key, Claims>>>,
}

struct Claims {
    running: Arc<Semaphore>,
    /// Running and waiting.
    count: usize,
}

/// The slot of one search, free when it is dropped.
pub(in crate::broker) struct SearchSlot {
    _running: OwnedSemaphorePermit,
    _claim: Claim,
}

/// A search that runs or waits.
struct Claim {
    slots: SearchSlots,
    key: Key,
}

impl SearchSlots {
    pub(in crate::broker) fn new(limits: SearchLimits) -> Self {
        Self { limits, claims: Arc::default() }
    }

    /// How long a search may take.
    pub(in crate::broker) fn budget(&self) -> Duration {
        self.limits.budget
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// `Throttled` when too many wait, or for too long.
    pub(in crate::broker) async fn acquire(
        &self,
        principal: PrincipalId,
        kind: SearchKind,
    ) -> Result<SearchSlot> {
        let (claim, running) = self.claim((principal, kind))?;
        let permit = timeout(SLOT_TIMEOUT, running.acquire_owned()).await;
        let permit = permit.map_err(|_| too_many(kind))?.map_err(Error::internal)?;
        Ok(SearchSlot { _running: permit, _claim: claim })
    }

    fn claim(&self, key: Key) -> Result<(Claim, Arc<Semaphore>)> {
        let mut all = lock(&self.claims);
        let claims = all.entry(key).or_insert_with(|| Claims {
            running: Arc::new(Semaphore::new(self.limits.per_user)),
            count: 0,
        });
        if claims.count >= self.limits.per_user + self.limits.waiting_per_user {
            return Err(too_many(key.1));
        }
        claims.count += 1;
        Ok((Claim { slots: self.clone(), key }, claims.running.clone()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = lock(&self.slots.claims);
        if let Some(claims) = all.get_mut(&self.key) {
            claims.count -= 1;
            if claims.count == 0 {
                all.remove(&self.key);
            }
        }
    }
}

fn too_many(kind: SearchKind) -> Error {
    let message = match kind {
        SearchKind::Query => {
            "You have several searches running already. Wait until they have finished, then try again."
        }
        SearchKind::Export => {
            "You have several exports running already. Wait until they have finished, then try again."
        }
        SearchKind::Verification => {
            "You have several verifications running already. Wait until they have finished, then try again."
        }
    };
    Error::new(ErrorKind::Throttled(RETRY_AFTER), message)
}

/// One more item than a page has, unless the log or the time is over before.
pub(in crate::broker) struct Gathered<T> {
    items: Vec<T>,
    limit: usize,
    /// Where the search goes on; `None`: the log is over.
    next: Option<i64>,
}

/// Searches for a page. `step` gets where to go on and how many items are missing, and returns what
/// it has found and where the next one goes on. Takes at least one step, so that whoever asks
/// again gets on.
pub(in crate::broker) async fn gather<T, S>(
    limit: usize,
    budget: Duration,
    start: Option<i64>,
    step: impl Fn(Option<i64>, usize) -> S,
) -> Result<Gathered<T>>
where
    S: Future<Output = Result<(Vec<T>, Option<i64>)>>,
{
    let deadline = Instant::now() + budget;
    let mut gathered = Gathered { items: Vec::new(), limit, next: start };
    loop {
        let missing = limit + 1 - gathered.items.len();
        let (found, next) = step(gathered.next, missing).await?;
        gathered.items.extend(found);
        gathered.next = next;
        if next.is_none() || gathered.items.len() > limit || Instant::now() >= deadline {
            return Ok(gathered);
        }
    }
}

impl<T> Gathered<T> {
    /// Where the search stopped, when its time was over.
    pub(in crate::broker) fn stopped_at(&self) -> Option<i64> {
        self.next.filter(|_| self.items.len() <= self.limit)
    }

    /// The page; `searched_to` is the time of what [`Gathered::stopped_at`] names.
    pub(in crate::broker) fn into_page(
        mut self,
        searched_to: Option<Timestamp>,
        newest_seq: i64,
        seq: impl Fn(&T) -> i64,
    ) -> SearchPage<T> {
        let next = match self.stopped_at() {
            None if self.items.len() > self.limit => {
                self.items.truncate(self.limit);
                self.items.last().map(seq)
            }
            stopped => stopped,
        };
        SearchPage {
            items: self.items,
            next_cursor: next.map(|seq| seq.to_string()),
            searched_to,
            newest_seq,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A log of ten entries, of which each step reads three; even ones fit.
    async fn find(limit: usize, budget: Duration, start: Option<i64>) -> (SearchPage<i64>, usize) {
        let steps = Cell::new(0);
        let gathered = gather(limit, budget, start, async |before: Option<i64>, missing| {
            steps.set(steps.get() + 1);
            let before = before.unwrap_or(11);
            let low = (before - 3).max(1);
            let fitting = (low..before).rev().filter(|seq| seq % 2 == 0).take(missing);
            let found: Vec<i64> = fitting.collect();
            let next = match found.last() {
                Some(last) if found.len() == missing => *last,
                _ => low,
            };
            Ok((found, Some(next).filter(|next| *next > 1)))
        })
        .await
        .unwrap();
        let at = gathered.stopped_at().map(Timestamp);
        (gathered.into_page(at, 10, |seq| *seq), steps.get())
    }

    #[tokio::test]
    async fn a_search_ends_with_its_page_its_log_or_its_time() {
        let long = Duration::from_secs(3600);
        let (page, _) = find(2, long, None).await;
        assert_eq!(
            (page.items, page.next_cursor, page.searched_to),
            (vec![10, 8], Some("8".into()), None)
        );
        let (page, steps) = find(9, long, None).await;
        assert_eq!((page.items, page.next_cursor, steps), (vec![10, 8, 6, 4, 2], None, 4));
        // Without time it takes one step, and says where it stopped.
        let (page, steps) = find(9, Duration::ZERO, None).await;
        assert_eq!((page.items, steps, page.searched_to), (vec![10, 8], 1, Some(Timestamp(8))));
        let (mut cursor, mut all) = (None, Vec::new());
        loop {
            let (page, steps) = find(9, Duration::ZERO, cursor).await;
            assert_eq!(steps, 1);
            all.extend(page.items);
            cursor = page.next_cursor.map(|text| text.parse().unwrap());
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(all, [10, 8, 6, 4, 2], "step by step everything is found once");
    }

    #[tokio::test]
    async fn slots_are_given_in_order_and_given_back() {
        let limits = SearchLimits { per_user: 1, waiting_per_user: 1, ..SearchLimits::default() };
        let slots = SearchSlots::new(limits);
        let (me, query) = (PrincipalId::System, SearchKind::Query);
        let first = slots.acquire(me, query).await.unwrap();
        let mut second = Box::pin(slots.acquire(me, query));
        assert!(futures_util::poll!(&mut second).is_pending());
        let refused = slots.acquire(me, query).await.err().unwrap();
        assert!(matches!(refused.kind, ErrorKind::Throttled(_)), "{refused:?}");
        slots.acquire(me, SearchKind::Export).await.unwrap();
        let other = PrincipalId::User(crate::domain::UserId::new());
        slots.acquire(other, query).await.unwrap();
        // Whoever waits and leaves makes room.
        drop(second);
        let second = slots.acquire(me, query);
        drop(first);
        drop(second.await.unwrap());
        assert!(lock(&slots.claims).is_empty(), "nothing is kept of who searches no more");
    }
}
