//! Recent failures of hosts to start a desktop: placement prefers other hosts for a while, and
//! administrators see what failed. In memory only; time is an argument.
//!
//! A host's **penalty** is the number of its failures since its last success, halved every
//! [`HALF_LIFE`]: a broken host is tried again now and then, without being chosen first every time.

use crate::broker::model::HostFailure;
use crate::domain::sync::lock;
use crate::domain::{HostId, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Time in which a penalty is halved.
const HALF_LIFE: Duration = Duration::from_secs(300);
/// Highest penalty: a host that failed for days is tried again within the hour.
const PENALTY_MAX: u32 = 16;
/// How long a failure is shown.
const SHOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// Most hosts remembered; the longest past failure is forgotten first.
const HOSTS_MAX: usize = 1024;
/// Longest detail, in bytes.
const DETAIL_MAX: usize = 300;

#[derive(Clone, Debug, Default)]
pub(in crate::broker) struct HostFailures {
    by_host: Arc<Mutex<HashMap<HostId, HostFailure>>>,
}

impl HostFailures {
    pub(in crate::broker) fn record(
        &self,
        host: HostId,
        reason: &str,
        detail: &str,
        now: Timestamp,
    ) {
        let mut by_host = lock(&self.by_host);
        let count = by_host.get(&host).map_or(0, |failure| penalty(failure, now));
        let detail = crate::broker::core::text::truncate_utf8(detail, DETAIL_MAX).to_owned();
        let count = (count + 1).min(PENALTY_MAX);
        let failure = HostFailure { at: now, reason: reason.to_owned(), detail, count };
        by_host.insert(host, failure);
        if by_host.len() > HOSTS_MAX {
            let oldest = by_host.iter().min_by_key(|(id, failure)| (failure.at, **id));
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                by_host.remove(&oldest);
            }
        }
    }

    /// After a success. Returns whether a failure was forgotten.
    pub(in crate::broker) fn clear(&self, host: HostId) -> bool {
        lock(&self.by_host).remove(&host).is_some()
    }

    /// Higher is worse; 0: nothing recent.
    pub(in crate::broker) fn penalty(&self, host: HostId, now: Timestamp) -> u32 {
        lock(&self.by_host).get(&host).map_or(0, |failure| penalty(failure, now))
    }

    /// The last failure, while it is shown.
    pub(in crate::broker) fn last(&self, host: HostId, now: Timestamp) -> Option<HostFailure> {
        lock(&self.by_host).get(&host).filter(|f| now.since(f.at) <= SHOWN_FOR).cloned()
    }
}

fn penalty(failure: &HostFailure, now: Timestamp) -> u32 {
    // A clock that was ahead penalizes nobody until it is reached again.
    if failure.at > now {
        return 0;
    }
    let halvings = now.since(failure.at).as_secs() / HALF_LIFE.as_secs();
    failure.count.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_penalty_grows_decays_and_is_forgotten_after_a_success() {
        let failures = HostFailures::default();
        let (host, at) = (HostId::new(), |s: i64| Timestamp(s * 1000));
        assert_eq!(failures.penalty(host, at(0)), 0);
        for n in 0..4 {
            failures.record(host, "timeout", "no answer", at(n));
        }
        assert_eq!(failures.penalty(host, at(4)), 4);
        assert_eq!(failures.penalty(host, at(304)), 2);
        assert_eq!(failures.penalty(host, at(3600)), 0);
        let last = failures.last(host, at(3600)).unwrap();
        assert_eq!(
            (last.reason.as_str(), last.detail.as_str(), last.at),
            ("timeout", "no answer", at(3))
        );
        assert_eq!(failures.last(host, at(90_000)), None, "shown for a day");
        assert!(failures.clear(host) && !failures.clear(host));
        assert_eq!(failures.penalty(host, at(4)), 0);
    }

    #[test]
    fn failures_and_hosts_are_bounded() {
        let failures = HostFailures::default();
        let now = Timestamp(1_000_000);
        let first = HostId::new();
        failures.record(first, "failed", &"x".repeat(5000), Timestamp(0));
        assert_eq!(failures.last(first, now).unwrap().detail.len(), DETAIL_MAX);
        for _ in 0..HOSTS_MAX {
            failures.record(HostId::new(), "failed", "", now);
        }
        assert_eq!(failures.last(first, now), None, "the oldest is forgotten");
        assert_eq!(lock(&failures.by_host).len(), HOSTS_MAX);
        let host = HostId::new();
        for _ in 0..100 {
            failures.record(host, "failed", "", now);
        }
        assert_eq!(failures.penalty(host, now), PENALTY_MAX);
    }
}
