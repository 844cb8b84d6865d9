//! Audit recorder in memory: entries of a stream, and the pin as the store would keep it.

use crate::support::wait::{WAIT_TIMEOUT, within};
use portcullis::domain::Result;
use portcullis::domain::upstream::Fingerprint;
use portcullis::viewer::stream_audit::{
    CertificateCheck, PresentedCertificate, StreamAudit, TransferRefusal,
};
use std::sync::{Arc, Mutex};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordedEvent {
    CertificateChecked(PresentedCertificate, CertificateCheck),
    CertificateRefused(PresentedCertificate, &'static str),
    LoginRefused(&'static str),
    DestinationRefused(String),
    TransferRefused(TransferRefusal),
}

/// Clones share their events.
#[derive(Clone, Default)]
pub struct RecordingAudit {
    events: Arc<Mutex<Vec<RecordedEvent>>>,
    pin: Arc<Mutex<Option<Fingerprint>>>,
}

impl RecordingAudit {
    pub fn events(&self) -> Vec<RecordedEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Totals of refused transfers so far: (channel, direction, bytes, count).
    pub fn refused_totals(&self) -> Vec<(&'static str, &'static str, u64, u64)> {
        let mut sums: Vec<(&'static str, &'static str, u64, u64)> = Vec::new();
        for event in self.events() {
            let RecordedEvent::TransferRefused(refused) = event else { continue };
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
        within(WAIT_TIMEOUT, async || done(self))
            .await
            .unwrap_or_else(|| panic!("recorded: {:?}", self.events()));
    }

    pub fn pin(&self) -> Option<Fingerprint> {
        *self.pin.lock().unwrap()
    }

    /// Accepts another certificate, as an administrator does.
    pub fn accept_pin(&self, pin: Fingerprint) {
        *self.pin.lock().unwrap() = Some(pin);
    }

    fn record(&self, event: RecordedEvent) {
        self.events.lock().unwrap().push(event);
    }
}

impl StreamAudit for RecordingAudit {
    async fn check_certificate(&self, seen: &PresentedCertificate) -> Result<CertificateCheck> {
        let pin = *self.pin.lock().unwrap().get_or_insert(seen.fingerprint);
        let result = if pin == seen.fingerprint {
            CertificateCheck::Trusted
        } else {
            CertificateCheck::Refused
        };
        self.record(RecordedEvent::CertificateChecked(seen.clone(), result));
        Ok(result)
    }

    async fn certificate_refused(
        &self,
        seen: &PresentedCertificate,
        reason_code: &'static str,
    ) -> Result<()> {
        self.record(RecordedEvent::CertificateRefused(seen.clone(), reason_code));
        Ok(())
    }

    async fn login_refused(&self, reason_code: &'static str) -> Result<()> {
        self.record(RecordedEvent::LoginRefused(reason_code));
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
