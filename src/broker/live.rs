//! Who watches a session, and how its streams are cut: authorisation lasts as long as the stream.

use crate::domain::lease::Lease;
use crate::domain::session::EndReason;
use crate::domain::{OrganizationId, SessionId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What became of the right to a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// It holds.
    Held,
    /// The session ended.
    SessionEnded(EndReason),
    /// The login it was opened from ended; the session goes on.
    SignedOut,
}

/// Something changed; the event stream says "refetch".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Where.
    pub organization_id: Option<OrganizationId>,
    /// What kind.
    pub topic: Topic,
}

/// Kinds of change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Workspaces, or their status.
    Workspaces,
    /// Sessions.
    Sessions,
    /// Hosts.
    Hosts,
}

/// Bytes and round trips of one stream; the relay writes, the API reads. No lock, no store.
#[derive(Debug, Default)]
pub struct Meters {
    /// Bytes browser to desktop.
    pub up: AtomicU64,
    /// Bytes desktop to browser.
    pub down: AtomicU64,
    rtt_micros: AtomicU64,
}

impl Meters {
    /// Notes a round trip browser to gateway.
    pub fn note_rtt(&self, rtt: Duration) {
        self.rtt_micros.store(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// The last round trip noted.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        match self.rtt_micros.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }
}

/// The right to one stream: the lease, the watch that ends it, and its meters. Dropping it frees the viewer's place.
#[derive(Debug)]
pub struct StreamGrant {
    /// What may be dialled.
    pub lease: Lease,
    /// Ends with anything but [`Right::Held`]; the relay must stop then at once.
    pub right: watch::Receiver<Right>,
    /// For the relay to write.
    pub meters: Arc<Meters>,
    /// Frees the place when dropped.
    pub place: ViewerPlace,
}

/// A viewer's place in a session.
#[derive(Debug)]
pub struct ViewerPlace {
    /// Session.
    pub session_id: SessionId,
}

/// Registry of live sessions and their watchers.
#[derive(Debug, Default)]
pub struct Live {}
