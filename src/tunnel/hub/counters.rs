//! What a hub counts.

use std::sync::atomic::AtomicU64;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HubCounters {
    /// Messages received; the kernel may have coalesced several datagrams in one.
    pub received: u64,
    pub received_bytes: u64,
    /// Sends accepted by the kernel.
    pub sent: u64,
    /// Sends refused by the kernel.
    pub send_failed: u64,
    /// Datagrams for no tunnel of this hub.
    pub unknown: u64,
    /// Datagrams that are no WireGuard message.
    pub malformed: u64,
    /// Initiations answered with a cookie reply because of rate limits.
    pub cookies: u64,
    /// Initiations dropped because of rate limits.
    pub limited: u64,
    /// Datagrams dropped because the owner's queue was full.
    pub overflow: u64,
}

#[derive(Debug, Default)]
pub(in crate::tunnel) struct Counters {
    pub(super) received: AtomicU64,
    pub(super) received_bytes: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) cookies: AtomicU64,
    pub(super) limited: AtomicU64,
    pub(super) overflow: AtomicU64,
}
