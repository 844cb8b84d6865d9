//! What a stream writes down: certificates met, logins and transfers refused. The stream path never
//! waits for it.
//!
//! - [`StreamAudit`]: the entries a stream can make. The broker's are real ([`BrokerStreamAudit`]); tests have
//!   others.
//! - [`RefusalCounter`]: refused transfers, counted at once and written at most once a second for each
//!   channel and direction, the last ones at the end. Counting takes a mutex for a few instructions
//!   and never fails; however slow the store is, nothing queues up.

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

/// Refusals of one channel and direction are written no oftener.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The entries a stream can make. Each is written, or an error: nothing is assumed.
pub trait StreamAudit: Sync {
    /// A certificate was met and its rule is first use: records it, or compares it with the one
    /// recorded.
    fn check_certificate(
        &self,
        seen: &PresentedCertificate,
    ) -> impl Future<Output = Result<CertificateCheck>> + Send;
    /// A certificate was met that a configured rule does not allow.
    fn certificate_refused(
        &self,
        seen: &PresentedCertificate,
        why: &'static str,
    ) -> impl Future<Output = Result<()>> + Send;
    /// The server did not take the credential.
    fn login_refused(&self, why: &'static str) -> impl Future<Output = Result<()>> + Send;
    /// The browser asked for another destination than its lease's. `asked` is cut and cleaned by
    /// whoever writes it.
    fn destination_refused(&self, asked: &str) -> impl Future<Output = Result<()>> + Send;
    /// Policy held something back.
    fn transfer_refused(
        &self,
        refused: &TransferRefusal,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// The broker's audit log, in the name of whoever opened the stream.
#[derive(Clone, Copy)]
pub struct BrokerStreamAudit<'a> {
    /// Writes.
    pub broker: &'a Broker,
    /// Where the browser is.
    pub origin: &'a RequestSource,
    /// The stream.
    pub grant: &'a StreamGrant,
}

impl StreamAudit for BrokerStreamAudit<'_> {
    async fn check_certificate(&self, seen: &PresentedCertificate) -> Result<CertificateCheck> {
        self.broker
            .check_certificate(self.origin, &self.grant.lease, self.grant.caller(), seen)
            .await
    }

    async fn certificate_refused(
        &self,
        seen: &PresentedCertificate,
        why: &'static str,
    ) -> Result<()> {
        self.broker
            .refuse_certificate(self.origin, &self.grant.lease, self.grant.caller(), seen, why)
            .await
    }

    async fn login_refused(&self, why: &'static str) -> Result<()> {
        self.broker.login_refused(self.origin, &self.grant.lease, self.grant.caller(), why).await
    }

    async fn destination_refused(&self, asked: &str) -> Result<()> {
        self.broker
            .destination_refused(self.origin, &self.grant.lease, self.grant.caller(), asked)
            .await
    }

    async fn transfer_refused(&self, refused: &TransferRefusal) -> Result<()> {
        self.broker
            .transfer_refused(self.origin, &self.grant.lease, self.grant.caller(), refused)
            .await
    }
}

/// Refused transfers that are not written yet: one line for each channel and direction, so never
/// more than a few.
#[derive(Debug, Default)]
pub struct RefusalCounter {
    entries: Mutex<Vec<TransferRefusal>>,
    counted: Notify,
    /// A line is on its way to the books.
    writing: AtomicBool,
    written: Notify,
}

impl RefusalCounter {
    /// Counts a refusal.
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
        let mut lines = lock(&self.entries);
        match lines
            .iter_mut()
            .find(|line| (line.channel, line.direction) == (more.channel, more.direction))
        {
            Some(line) => {
                line.bytes = line.bytes.saturating_add(more.bytes);
                line.count = line.count.saturating_add(more.count);
            }
            None => lines.push(more),
        }
    }

    fn take(&self) -> Option<TransferRefusal> {
        lock(&self.entries).pop()
    }

    /// Writes what is counted as it comes; at the end of the stream wait for [`RefusalCounter::rest`] beside
    /// it, drop it, then [`RefusalCounter::flush`].
    pub async fn write_periodically(&self, books: &impl StreamAudit) -> Infallible {
        loop {
            self.counted.notified().await;
            self.flush(books).await;
            sleep(WRITE_INTERVAL).await;
        }
    }

    /// Resolves when nothing is on its way to the books. A line whose writing is dropped may be
    /// written all the same, and would be written again.
    pub async fn wait_until_written(&self) {
        while self.writing.load(Ordering::Acquire) {
            self.written.notified().await;
        }
    }

    /// Writes what is counted and not written. What cannot be written stays counted.
    pub async fn flush(&self, books: &impl StreamAudit) {
        while let Some(line) = self.take() {
            self.writing.store(true, Ordering::Release);
            let mut held = InFlightEntry { counter: self, entry: Some(line) };
            let Some(line) = &held.entry else { return };
            match books.transfer_refused(line).await {
                Ok(()) => held.entry = None,
                Err(error) => {
                    tracing::error!(%error, cause = error.source.as_deref().map(tracing::field::display), "viewer.refusal.unrecorded");
                    drop(held);
                    return self.counted.notify_one();
                }
            }
        }
    }
}

/// A line under way to the books: counted again when it does not arrive.
struct InFlightEntry<'a> {
    counter: &'a RefusalCounter,
    entry: Option<TransferRefusal>,
}

impl Drop for InFlightEntry<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.entry.take() {
            self.counter.merge(line);
        }
        self.counter.writing.store(false, Ordering::Release);
        self.counter.written.notify_one();
    }
}
