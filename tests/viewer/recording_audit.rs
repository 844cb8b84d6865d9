//! Books in memory: what a stream wrote down, and certificates as the store would keep them.

use portcullis::domain::Result;
use portcullis::domain::upstream::Fingerprint;
use portcullis::viewer::stream_audit::{
    CertificateCheck, PresentedCertificate, StreamAudit, TransferRefusal,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordedEvent {
    CertificateChecked(PresentedCertificate, CertificateCheck),
    CertificateRefused(PresentedCertificate, &'static str),
    LoginRefused(&'static str),
    DestinationRefused(String),
    TransferRefused(TransferRefusal),
}

/// The books. Clones are the same books.
#[derive(Clone, Default)]
pub struct RecordingAudit {
    events: Arc<Mutex<Vec<RecordedEvent>>>,
    pin: Arc<Mutex<Option<Fingerprint>>>,
}

impl RecordingAudit {
    /// What was written so far.
    pub fn events(&self) -> Vec<RecordedEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Refused transfers so far, put together: (channel, direction, bytes, count).
    pub fn refused_totals(&self) -> Vec<(&'static str, &'static str, u64, u64)> {
        let mut sums: Vec<(&'static str, &'static str, u64, u64)> = Vec::new();
        for line in self.events() {
            let RecordedEvent::TransferRefused(refused) = line else { continue };
            match sums.iter_mut().find(|sum| (sum.0, sum.1) == (refused.channel, refused.direction))
            {
                Some(sum) => (sum.2, sum.3) = (sum.2 + refused.bytes, sum.3 + refused.count),
                None => {
                    sums.push((refused.channel, refused.direction, refused.bytes, refused.count))
                }
            }
        }
        sums.sort_unstable();
        sums
    }

    /// Waits until it satisfies `done`.
    pub async fn wait_until(&self, done: impl Fn(&Self) -> bool) {
        let wait = async {
            while !done(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .unwrap_or_else(|_| panic!("the books say {:?}", self.events()));
    }

    /// The recorded pin.
    pub fn pin(&self) -> Option<Fingerprint> {
        *self.pin.lock().unwrap()
    }

    /// What an admin does who accepts another one.
    pub fn accept_pin(&self, pin: Fingerprint) {
        *self.pin.lock().unwrap() = Some(pin);
    }

    fn record(&self, line: RecordedEvent) {
        self.events.lock().unwrap().push(line);
    }
}

impl StreamAudit for RecordingAudit {
    async fn check_certificate(&self, seen: &PresentedCertificate) -> Result<CertificateCheck> {
        let pin = *self.pin.lock().unwrap().get_or_insert(seen.fingerprint);
        let met = if pin == seen.fingerprint {
            CertificateCheck::Trusted
        } else {
            CertificateCheck::Refused
        };
        self.record(RecordedEvent::CertificateChecked(seen.clone(), met));
        Ok(met)
    }

    async fn certificate_refused(
        &self,
        seen: &PresentedCertificate,
        why: &'static str,
    ) -> Result<()> {
        self.record(RecordedEvent::CertificateRefused(seen.clone(), why));
        Ok(())
    }

    async fn login_refused(&self, why: &'static str) -> Result<()> {
        self.record(RecordedEvent::LoginRefused(why));
        Ok(())
    }

    async fn destination_refused(&self, asked: &str) -> Result<()> {
        self.record(RecordedEvent::DestinationRefused(asked.to_owned()));
        Ok(())
    }

    async fn transfer_refused(&self, refused: &TransferRefusal) -> Result<()> {
        self.record(RecordedEvent::TransferRefused(*refused));
        Ok(())
    }
}
