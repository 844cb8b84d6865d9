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
pub enum Line {
    CertificateChecked(PresentedCertificate, CertificateCheck),
    CertificateRefused(PresentedCertificate, &'static str),
    LoginRefused(&'static str),
    DestinationRefused(String),
    TransferRefused(TransferRefusal),
}

/// The books. Clones are the same books.
#[derive(Clone, Default)]
pub struct Ledger {
    lines: Arc<Mutex<Vec<Line>>>,
    pin: Arc<Mutex<Option<Fingerprint>>>,
}

impl Ledger {
    /// What was written so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }

    /// Refused transfers so far, put together: (channel, direction, bytes, count).
    pub fn refused(&self) -> Vec<(&'static str, &'static str, u64, u64)> {
        let mut sums: Vec<(&'static str, &'static str, u64, u64)> = Vec::new();
        for line in self.lines() {
            let Line::TransferRefused(refused) = line else { continue };
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
    pub async fn until(&self, done: impl Fn(&Self) -> bool) {
        let wait = async {
            while !done(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .unwrap_or_else(|_| panic!("the books say {:?}", self.lines()));
    }

    /// The recorded pin.
    pub fn pin(&self) -> Option<Fingerprint> {
        *self.pin.lock().unwrap()
    }

    /// What an admin does who accepts another one.
    pub fn accept_pin(&self, pin: Fingerprint) {
        *self.pin.lock().unwrap() = Some(pin);
    }

    fn write(&self, line: Line) {
        self.lines.lock().unwrap().push(line);
    }
}

impl StreamAudit for Ledger {
    async fn check_certificate(&self, seen: &PresentedCertificate) -> Result<CertificateCheck> {
        let pin = *self.pin.lock().unwrap().get_or_insert(seen.fingerprint);
        let met = if pin == seen.fingerprint {
            CertificateCheck::Trusted
        } else {
            CertificateCheck::Refused
        };
        self.write(Line::CertificateChecked(seen.clone(), met));
        Ok(met)
    }

    async fn certificate_refused(
        &self,
        seen: &PresentedCertificate,
        why: &'static str,
    ) -> Result<()> {
        self.write(Line::CertificateRefused(seen.clone(), why));
        Ok(())
    }

    async fn login_refused(&self, why: &'static str) -> Result<()> {
        self.write(Line::LoginRefused(why));
        Ok(())
    }

    async fn destination_refused(&self, asked: &str) -> Result<()> {
        self.write(Line::DestinationRefused(asked.to_owned()));
        Ok(())
    }

    async fn transfer_refused(&self, refused: &TransferRefusal) -> Result<()> {
        self.write(Line::TransferRefused(*refused));
        Ok(())
    }
}
