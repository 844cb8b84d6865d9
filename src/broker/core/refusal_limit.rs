//! Refusals of one principal in the audit log: a rate limit for each action, so that nobody who is
//! signed in can fill the log by asking for what is refused. The next entry written of the same
//! principal and action says how many were left out (`left_out_before`).

use crate::broker::core::text::json_int;
use crate::domain::audit::{Action, Draft};
use crate::domain::rate_limit::{KeyedRateLimiter, MAX_KEYS, Quota};
use crate::domain::sync::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Detail of an entry: entries left out since the one before.
pub(in crate::broker::core) const LEFT_OUT: &str = "left_out_before";

/// A principal's id, and an action.
type Key = (String, Action);

pub(in crate::broker::core) struct RefusalLimit {
    limiter: Mutex<KeyedRateLimiter<Key>>,
    /// Entries left out since the last one written. Of more keys than [`MAX_KEYS`] they are not
    /// counted.
    left_out: Mutex<HashMap<Key, u64>>,
}

/// Counts of entries that were written or left out by a transaction that has not committed yet.
/// Dropped without [`PendingCounts::commit`], everything is as before.
pub(in crate::broker::core) struct PendingCounts {
    limit: Arc<RefusalLimit>,
    admitted: Vec<Key>,
    reported: Vec<(Key, u64)>,
    left_out: Vec<(Key, u64)>,
}

impl RefusalLimit {
    pub(in crate::broker::core) fn new(quota: Quota) -> Self {
        Self { limiter: Mutex::new(KeyedRateLimiter::new(quota)), left_out: Mutex::default() }
    }

    /// The entries to write, without the refusals that exceed the limit.
    pub(in crate::broker::core) fn filter(
        self: &Arc<Self>,
        entries: Vec<(Draft, IsRefusal)>,
    ) -> (Vec<Draft>, PendingCounts) {
        let mut pending = PendingCounts {
            limit: self.clone(),
            admitted: Vec::new(),
            reported: Vec::new(),
            left_out: Vec::new(),
        };
        let admitted = entries.into_iter().filter_map(|(mut draft, is_refusal)| {
            let Some(actor) = draft.actor.id.clone().filter(|_| is_refusal.0) else {
                return Some(draft);
            };
            let key = (actor, draft.action);
            let now = u64::try_from(draft.time.0).unwrap_or(0).saturating_mul(1_000_000);
            let earlier = draft.details.get(LEFT_OUT).and_then(serde_json::Value::as_u64);
            let earlier = earlier.unwrap_or_default();
            if lock(&self.limiter).try_acquire(key.clone(), now).is_err() {
                pending.left_out.push((key, earlier.saturating_add(1)));
                return None;
            }
            if let Some(count) = lock(&self.left_out).remove(&key) {
                draft.details.insert(LEFT_OUT.to_owned(), json_int(earlier.saturating_add(count)));
                pending.reported.push((key.clone(), count));
            }
            pending.admitted.push(key);
            Some(draft)
        });
        (admitted.collect(), pending)
    }

    fn add(&self, counts: impl IntoIterator<Item = (Key, u64)>) {
        let mut left_out = lock(&self.left_out);
        for (key, count) in counts {
            if left_out.len() < MAX_KEYS || left_out.contains_key(&key) {
                let sum = left_out.entry(key).or_default();
                *sum = sum.saturating_add(count);
            }
        }
    }
}

/// Whether an entry is about a refusal that changed nothing.
#[derive(Clone, Copy)]
pub(in crate::broker::core) struct IsRefusal(pub(in crate::broker::core) bool);

impl PendingCounts {
    /// The transaction has committed.
    pub(in crate::broker::core) fn commit(mut self) {
        self.admitted.clear();
        self.reported.clear();
        let left_out = std::mem::take(&mut self.left_out);
        self.limit.add(left_out);
    }
}

impl Drop for PendingCounts {
    fn drop(&mut self) {
        for key in &self.admitted {
            lock(&self.limit.limiter).give_back(key);
        }
        let reported = std::mem::take(&mut self.reported);
        self.limit.add(reported);
    }
}
