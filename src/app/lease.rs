//! The lease on the database: one gateway serves from it (docs/adr/0020).
//!
//! The holder counts heartbeats in the database. Another gateway that wants the lease watches the
//! counter by its own monotonic clock: it refuses to start once the counter moves, and takes the
//! lease over once the counter has stood still for [`EXPIRY`]. Wall clocks decide nothing, so a
//! clock that jumps or differs between machines has no effect. A holder that could not renew for
//! [`RENEW_DEADLINE`] stops serving before anybody can take over.
//!
//! A gateway that crashed and starts again on the same data folder does not wait: it holds the lock
//! on the folder that its predecessor held, which proves that the predecessor has ended.

use super::failure::Failure;
use crate::domain::{Clock, Timestamp};
use crate::store::{GatewayLeaseRow, Store};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

/// Interval of the holder's renewals.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// The holder gives up when no renewal has succeeded for this long.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(20);
/// A lease without a heartbeat for this long is taken over. Longer than [`RENEW_DEADLINE`], so that
/// the former holder has stopped by then.
pub const EXPIRY: Duration = Duration::from_secs(30);
/// Interval at which the lease of another gateway is read.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Longest release at shutdown.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// The lease, held and renewed until dropped.
pub struct GatewayLease {
    store: Store,
    holder: String,
    lost: watch::Receiver<Option<String>>,
    renewal: AbortHandle,
}

impl Drop for GatewayLease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// What a gateway does about a lease that is there.
#[derive(PartialEq, Eq, Debug)]
enum Claim {
    TakeOver,
    Refuse,
    Wait,
}

/// The lease of another gateway, and since when it has been seen unchanged.
struct Observation {
    row: GatewayLeaseRow,
    since: Instant,
}

/// Decides by the first observation of the present holder, the row as it is now, and our own lock.
fn claim(first: &Observation, row: &GatewayLeaseRow, lock_id: &str, now: Instant) -> Claim {
    if row.lock_id == lock_id {
        return Claim::TakeOver;
    }
    if (&row.holder, row.heartbeats) != (&first.row.holder, first.row.heartbeats) {
        return Claim::Refuse;
    }
    if now.saturating_duration_since(first.since) >= EXPIRY { Claim::TakeOver } else { Claim::Wait }
}

/// Identifies the locked file among all files of all running kernels.
///
/// # Errors
/// When the file cannot be examined.
pub fn lock_id(lock: &File) -> std::io::Result<String> {
    let facts = lock.metadata()?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{}:{}:{}", boot.trim(), facts.dev(), facts.ino()))
}

impl GatewayLease {
    /// Acquires the lease. Takes [`EXPIRY`] at most when the lease belongs to a gateway that
    /// crashed elsewhere, and a heartbeat's interval to refuse.
    ///
    /// # Errors
    /// A sentence that names the gateway that holds it; the database's failure.
    pub async fn acquire(
        store: Store,
        clock: Arc<dyn Clock>,
        holder_name: String,
        lock_id: String,
    ) -> Result<Self, Failure> {
        let holder = uuid::Uuid::new_v4().to_string();
        let mut first: Option<Observation> = None;
        let mut poll = tokio::time::interval(POLL_INTERVAL);
        loop {
            poll.tick().await;
            let began = Instant::now();
            let now = clock.now().0;
            let ours = GatewayLeaseRow {
                holder: holder.clone(),
                holder_name: holder_name.clone(),
                lock_id: lock_id.clone(),
                acquired_at: now,
                heartbeat_at: now,
                heartbeats: 0,
            };
            let found = store.read(|tx| tx.gateway_lease()).await?;
            let taken = match found {
                None => store.write(move |tx| tx.insert_gateway_lease(&ours)).await?,
                Some(row) => {
                    let first = first.get_or_insert_with(|| {
                        tracing::info!(holder = row.holder_name, "gateway_lease.held");
                        Observation { row: row.clone(), since: Instant::now() }
                    });
                    match claim(first, &row, &lock_id, began) {
                        Claim::Wait => false,
                        Claim::Refuse => return Err(refusal(&row)),
                        Claim::TakeOver => {
                            tracing::info!(holder = row.holder_name, "gateway_lease.taken_over");
                            store.write(move |tx| tx.replace_gateway_lease(&row, &ours)).await?
                        }
                    }
                }
            };
            if taken {
                return Ok(Self::start(store, clock, holder, began));
            }
        }
    }

    fn start(store: Store, clock: Arc<dyn Clock>, holder: String, renewed: Instant) -> Self {
        let (lost, seen) = watch::channel(None);
        let renewing = renew(store.clone(), clock, holder.clone(), renewed);
        let renewal = tokio::spawn(async move {
            let reason = renewing.await;
            tracing::error!(reason, "gateway_lease.lost");
            lost.send_replace(Some(reason));
        });
        Self { store, holder, lost: seen, renewal: renewal.abort_handle() }
    }

    /// Resolves with the reason when the lease is lost.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the task that renews it failed".to_owned(),
        }
    }

    /// Gives the lease up, so that the next gateway starts at once.
    pub async fn release(&self) {
        self.renewal.abort();
        let holder = self.holder.clone();
        let released = self.store.release_gateway_lease(holder);
        match tokio::time::timeout(RELEASE_TIMEOUT, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "gateway_lease.unreleased"),
            Err(_) => tracing::warn!("gateway_lease.unreleased: the database did not answer"),
        }
    }
}

/// Renews until the lease is lost; returns the reason. `renewed` is when the last renewal began.
async fn renew(
    store: Store,
    clock: Arc<dyn Clock>,
    holder: String,
    mut renewed: Instant,
) -> String {
    let mut tick = tokio::time::interval(HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        let began = Instant::now();
        // Even when the deadline is over (the process was suspended) the database decides.
        let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed()).max(HEARTBEAT);
        let renewal = store.renew_gateway_lease(&holder, clock.now());
        let failure = match tokio::time::timeout(left, renewal).await {
            Ok(Ok(true)) => {
                renewed = began;
                continue;
            }
            Ok(Ok(false)) => return "another gateway took it over".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database did not answer".to_owned(),
        };
        tracing::warn!(error = failure, "gateway_lease.not_renewed");
        if renewed.elapsed() >= RENEW_DEADLINE {
            return format!(
                "it could not be renewed for {} s: {failure}",
                RENEW_DEADLINE.as_secs()
            );
        }
    }
}

fn refusal(row: &GatewayLeaseRow) -> Failure {
    Failure::new(format!(
        "another gateway serves from this database: {}, since {}, last heartbeat {}; stop it first",
        row.holder_name,
        Timestamp(row.acquired_at),
        Timestamp(row.heartbeat_at)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(holder: &str, lock_id: &str, heartbeats: i64) -> GatewayLeaseRow {
        GatewayLeaseRow {
            holder: holder.to_owned(),
            holder_name: "https://desk.example".to_owned(),
            lock_id: lock_id.to_owned(),
            acquired_at: 0,
            // A wall clock far ahead of ours: it decides nothing.
            heartbeat_at: i64::MAX,
            heartbeats,
        }
    }

    #[test]
    fn a_lease_is_refused_while_it_moves_and_taken_over_when_it_stands_still() {
        let since = Instant::now();
        let first = Observation { row: row("a", "x", 7), since };
        let just_before = since + EXPIRY.checked_sub(Duration::from_millis(1)).unwrap();
        for (now_row, now, expected) in [
            (row("a", "x", 7), since, Claim::Wait),
            (row("a", "x", 7), just_before, Claim::Wait),
            (row("a", "x", 7), since + EXPIRY, Claim::TakeOver),
            (row("a", "x", 8), since, Claim::Refuse),
            (row("a", "x", 8), since + EXPIRY, Claim::Refuse),
            (row("b", "x", 7), since + EXPIRY, Claim::Refuse),
            (row("a", "own", 7), since, Claim::TakeOver),
        ] {
            assert_eq!(claim(&first, &now_row, "own", now), expected, "{now_row:?}");
        }
    }

    #[test]
    fn the_holder_gives_up_before_anybody_takes_over() {
        assert!(RENEW_DEADLINE + 2 * HEARTBEAT < EXPIRY);
    }

    #[test]
    fn a_lock_is_identified_by_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| File::create(dir.path().join(name)).unwrap());
        assert_eq!(lock_id(&a).unwrap(), lock_id(&a.try_clone().unwrap()).unwrap());
        assert_ne!(lock_id(&a).unwrap(), lock_id(&b).unwrap());
    }
}
