//! A stream audit that discards everything: the testbed has no store.

use portcullis::domain::Result;
use portcullis::viewer::stream_audit::{
    CertificateCheck, PresentedCertificate, StreamAudit, TransferRefusal,
};

pub struct NullAuditSink;

impl StreamAudit for NullAuditSink {
    async fn check_certificate(&self, _: &PresentedCertificate) -> Result<CertificateCheck> {
        Ok(CertificateCheck::Trusted)
    }

    async fn certificate_refused(&self, _: &PresentedCertificate, _: &'static str) -> Result<()> {
        Ok(())
    }

    async fn login_refused(&self, _: &'static str) -> Result<()> {
        Ok(())
    }

    async fn destination_refused(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn transfer_refused(&self, _: &TransferRefusal) -> Result<()> {
        Ok(())
    }
}
