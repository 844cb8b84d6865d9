//! Audit entries of a stream: certificates seen, logins and transfers refused. The stream path
//! never waits for the store.
//!
//! - [`StreamAudit`]: the entries a stream can write. [`BrokerStreamAudit`] writes them through the
//!   broker; tests record them.
//! - [`RefusalCounter`]: refused transfers, counted at once and written at most once a second for
//!   each channel and direction, and once more at the end. Counting holds a mutex for a few
//!   instructions and never fails; however slow the store is, its memory is bounded.

use super::stream_filter::RefusedTransfer;
use crate::broker::Broker;
use crate::broker::core::stream_registry::StreamGrant;
pub use crate::broker::model::{CertificateCheck, PresentedCertificate, TransferRefusal};
use crate::domain::Result;
use crate::domain::sync::lock;
use crate::domain::user::RequestSource;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Shortest time between two entries of the same channel and direction.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The entries a stream can write. Each call returns after the entry is stored, or with an error.
pub trait StreamAudit: Sync {
    /// Checks a certificate under a first-use rule: records it, or compares it with the recorded
    /// one.
    fn check_certificate(
        &self,
        certificate: &PresentedCertificate,
    ) -> impl Future<Output = Result<CertificateCheck>> + Send;
    /// Records a certificate that the configured rule does not allow.
    fn certificate_refused(
        &self,
        certificate: &PresentedCertificate,
        reason: &'static str,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Records that the upstream did not accept the credential.
    fn login_refused(&self, reason: &'static str) -> impl Future<Output = Result<()>> + Send;
    /// Records a request for another destination than the lease's. The implementation truncates and
    /// cleans `asked`.
    fn destination_refused(&self, asked: &str) -> impl Future<Output = Result<()>> + Send;
    /// Records refused transfers.
    fn transfer_refused(
        &self,
        refused: &TransferRefusal,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Writes to the broker's audit log, with the principal that opened the stream.
#[derive(Clone, Copy)]
pub struct BrokerStreamAudit<'a> {
    pub broker: &'a Broker,
    /// Where the browser connects from.
    pub origin: &'a RequestSource,
    pub grant: &'a StreamGrant,
}

impl StreamAudit for BrokerStreamAudit<'_> {
    async fn check_certificate(
        &self,
        certificate: &PresentedCertificate,
    ) -> Result<CertificateCheck> {
        self.broker
            .certificates()
            .check(self.origin, &self.grant.lease, self.grant.caller(), certificate)
            .await
    }

    async fn certificate_refused(
        &self,
        certificate: &PresentedCertificate,
        reason: &'static str,
    ) -> Result<()> {
        self.broker
            .certificates()
            .refuse(self.origin, &self.grant.lease, self.grant.caller(), certificate, reason)
            .await
    }

    async fn login_refused(&self, reason: &'static str) -> Result<()> {
        self.broker
            .stream_events()
            .login_refused(self.origin, &self.grant.lease, self.grant.caller(), reason)
            .await
    }

    async fn destination_refused(&self, asked: &str) -> Result<()> {
        self.broker
            .stream_events()
            .destination_refused(self.origin, &self.grant.lease, self.grant.caller(), asked)
            .await
    }

    async fn transfer_refused(&self, refused: &TransferRefusal) -> Result<()> {
        self.broker
            .stream_events()
            .transfer_refused(self.origin, &self.grant.lease, self.grant.caller(), refused)
            .await
    }
}

/// Refused transfers that are not written yet: one entry for each channel and direction, so never
/// more than a few.
#[derive(Debug, Default)]
pub struct RefusalCounter {
    entries: Mutex<Vec<TransferRefusal>>,
    counted: Notify,
    /// An entry is being written.
    writing: AtomicBool,
    written: Notify,
}

impl RefusalCounter {
    pub fn count(&self, refused: &RefusedTransfer) {
        self.merge(TransferRefusal {
            channel: refused.channel.as_str(),
            direction: refused.direction.as_str(),
            bytes: refused.bytes,
            count: refused.count,
        });
        self.counted.notify_one();
    }

    fn merge(&self, more: TransferRefusal) {
        let mut entries = lock(&self.entries);
        match entries
            .iter_mut()
            .find(|entry| (entry.channel, entry.direction) == (more.channel, more.direction))
        {
            Some(entry) => {
                entry.bytes = entry.bytes.saturating_add(more.bytes);
                entry.count = entry.count.saturating_add(more.count);
            }
            None => entries.push(more),
        }
    }

    fn take(&self) -> Option<TransferRefusal> {
        lock(&self.entries).pop()
    }

    /// Writes counted refusals while the stream runs. At the end of the stream, wait for
    /// [`RefusalCounter::wait_until_written`] beside it, drop it, then call
    /// [`RefusalCounter::flush`].
    pub async fn write_periodically(&self, audit: &impl StreamAudit) -> Infallible {
        loop {
            self.counted.notified().await;
            self.flush(audit).await;
            sleep(WRITE_INTERVAL).await;
        }
    }

    /// Resolves when no entry is being written. An entry whose write is dropped may be stored all
    /// the same, and would be written twice.
    pub async fn wait_until_written(&self) {
        while self.writing.load(Ordering::Acquire) {
            self.written.notified().await;
        }
    }

    /// Writes what is counted. What cannot be written stays counted.
    pub async fn flush(&self, audit: &impl StreamAudit) {
        while let Some(entry) = self.take() {
            self.writing.store(true, Ordering::Release);
            let mut in_flight = InFlightEntry { counter: self, entry: Some(entry) };
            let Some(entry) = &in_flight.entry else { return };
            match audit.transfer_refused(entry).await {
                Ok(()) => in_flight.entry = None,
                Err(error) => {
                    tracing::error!(%error, cause = error.source.as_deref().map(tracing::field::display), "viewer.refusal.unrecorded");
                    drop(in_flight);
                    return self.counted.notify_one();
                }
            }
        }
    }
}

/// An entry that is being written; counted again when the write does not succeed.
struct InFlightEntry<'a> {
    counter: &'a RefusalCounter,
    entry: Option<TransferRefusal>,
}

impl Drop for InFlightEntry<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.counter.merge(entry);
        }
        self.counter.writing.store(false, Ordering::Release);
        self.counter.written.notify_one();
    }
}
