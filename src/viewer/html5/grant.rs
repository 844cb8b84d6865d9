//! Who opened an application and under which lease; audit entries are written on their behalf.

use crate::broker::Broker;
use crate::broker::core::stream_registry::{StreamMeters, StreamSlotGuard};
use crate::broker::model::RefusedRequest;
use crate::domain::lease::Lease;
use crate::domain::principal::Principal;
use crate::domain::user::RequestSource;
use crate::domain::{LoginId, Result, SessionId};
use crate::viewer::stream_audit::{
    CertificateCheck, PresentedCertificate, StreamAudit, TransferRefusal,
};
use std::sync::Arc;

/// The grant by which an application was opened.
pub(super) struct AppGrant {
    pub(super) broker: Broker,
    /// Source of the request that opened it.
    pub(super) source: RequestSource,
    pub(super) lease: Lease,
    pub(super) caller: Option<Principal>,
    pub(super) meters: Arc<StreamMeters>,
}

impl AppGrant {
    pub(super) fn session_id(&self) -> SessionId {
        self.lease.session().id
    }

    /// The login that opened it.
    pub(super) fn login_id(&self) -> Option<LoginId> {
        self.caller.as_ref().map_or(self.lease.session().login_id, Principal::login_id)
    }

    /// Writes requests that policy refused to the audit log.
    pub(super) async fn request_refused(&self, refused: &RefusedRequest) -> Result<()> {
        self.broker
            .stream_events()
            .request_refused(&self.source, &self.lease, self.caller.as_ref(), refused)
            .await
    }

    /// Writes the close of the application to the audit log and frees its slot.
    pub(super) async fn close(&self, slot: StreamSlotGuard, reason: &str) -> Result<()> {
        self.broker
            .streams()
            .close_shared(&self.source, &self.lease, &self.meters, slot, reason)
            .await
    }
}

impl StreamAudit for AppGrant {
    async fn check_certificate(
        &self,
        presented: &PresentedCertificate,
    ) -> Result<CertificateCheck> {
        self.broker
            .certificates()
            .check(&self.source, &self.lease, self.caller.as_ref(), presented)
            .await
    }

    async fn certificate_refused(
        &self,
        presented: &PresentedCertificate,
        reason: &'static str,
    ) -> Result<()> {
        self.broker
            .certificates()
            .refuse(&self.source, &self.lease, self.caller.as_ref(), presented, reason)
            .await
    }

    async fn login_refused(&self, reason: &'static str) -> Result<()> {
        self.broker
            .stream_events()
            .login_refused(&self.source, &self.lease, self.caller.as_ref(), reason)
            .await
    }

    async fn destination_refused(&self, requested: &str) -> Result<()> {
        self.broker
            .stream_events()
            .destination_refused(&self.source, &self.lease, self.caller.as_ref(), requested)
            .await
    }

    async fn transfer_refused(&self, refused: &TransferRefusal) -> Result<()> {
        self.broker
            .stream_events()
            .transfer_refused(&self.source, &self.lease, self.caller.as_ref(), refused)
            .await
    }
}
