//! Certificates of upstreams, and audit entries about streams.
//!
//! | term | meaning |
//! | --- | --- |
//! | pinned | recorded at first use, or accepted by an administrator; another certificate is refused and stored as *offered* |
//! | [`TransferRefusal`] | what policy kept from passing in a stream: how much, never its content |

use crate::broker::core::answers::WORKSPACE;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::changes::{Changes, Topic};
use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::core::text::sanitize_line;
use crate::broker::core::unit_of_work::{AuditedStore, Decision};
use crate::broker::core::validate;
use crate::broker::model::{CertificateCheck, PresentedCertificate};
use crate::broker::targets::stream_events::stream_entry;
use crate::domain::audit::{Action, Reason};
use crate::domain::lease::Lease;
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::session::State;
use crate::domain::upstream::{Fingerprint, TrustRule};
use crate::domain::user::RequestSource;
use crate::domain::workspace::{OfferedCertificate, WorkspaceSpec};
use crate::domain::{Error, Result, WorkspaceId, WorkspaceKey};

impl PresentedCertificate {
    pub(in crate::broker) fn offered(&self, entry: &AuditEntryBuilder) -> OfferedCertificate {
        OfferedCertificate {
            fingerprint: self.fingerprint,
            at: entry.now(),
            subject: sanitize_line(&self.subject),
        }
    }
}

#[derive(Clone)]
pub struct Certificates {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) streams: StreamRegistry,
    pub(in crate::broker) changes: Changes,
}

impl Certificates {
    /// Compares an upstream's certificate with the pinned one, and pins it if none is pinned. For
    /// [`TrustRule::FirstUse`]; the other rules are decided where the certificate is received, and
    /// their refusals are recorded with [`Broker::refuse_certificate`].
    ///
    /// # Errors
    /// When the store cannot be read or written; then the certificate is not trusted.
    pub async fn check(
        &self,
        source: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        seen: &PresentedCertificate,
    ) -> Result<CertificateCheck> {
        let key = lease.session().workspace_key();
        let looked = key.clone();
        let pinned = self.store.read(move |tx| Ok(tx.upstream_state(&looked)?.pinned)).await?;
        if pinned.is_some_and(|(pin, _)| pin == seen.fingerprint) {
            return Ok(CertificateCheck::Trusted);
        }
        let entry = stream_entry(&self.store, source, Action::PinCertificate, lease, by)
            .with("fingerprint", seen.fingerprint.to_string());
        let offered = seen.offered(&entry);
        let entry = entry.with("subject", offered.subject.clone());
        let (session, organization) = (lease.session().id, lease.session().organization_id);
        let met = self
            .store
            .write(move |tx| {
                // If the session ended meanwhile, the workspace may name another target now.
                let holds = tx.session(session)?.is_some_and(|s| s.state == State::Active);
                if holds
                    && tx.pin_certificate_if_none(
                        &key,
                        offered.fingerprint,
                        &offered.subject,
                        entry.now(),
                    )?
                {
                    tx.add_entry(&entry.clone().reason(Reason::Recorded));
                    return Ok(CertificateCheck::Trusted);
                }
                let expected = tx.upstream_state(&key)?.pinned.map(|(pin, _)| pin);
                if holds && expected == Some(offered.fingerprint) {
                    return Ok(CertificateCheck::Trusted);
                }
                tx.set_offered_certificate(&key, &offered)?;
                let entry = entry
                    .clone()
                    .action(Action::CertificateRefused)
                    .with("expected", expected.map(|pin| pin.to_string()));
                tx.add_entry(&entry.denied(Reason::Changed));
                Ok(CertificateCheck::Refused)
            })
            .await?;
        self.changes.publish(Some(organization), &[Topic::Workspaces]);
        Ok(met)
    }

    /// Audits a refused certificate and stores it as offered. `why` is a reason such as
    /// `not_pinned`, `untrusted`, `wrong_name`, `expired`.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn refuse(
        &self,
        source: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        seen: &PresentedCertificate,
        why: &'static str,
    ) -> Result<()> {
        let key = lease.session().workspace_key();
        let entry = stream_entry(&self.store, source, Action::CertificateRefused, lease, by)
            .with("fingerprint", seen.fingerprint.to_string())
            .denied(Reason::External(why.to_owned()));
        let offered = seen.offered(&entry);
        let entry = entry.with("subject", offered.subject.clone());
        let organization = lease.session().organization_id;
        self.store
            .write(move |tx| {
                tx.set_offered_certificate(&key, &offered)?;
                tx.add_entry(&entry);
                Ok(())
            })
            .await?;
        self.changes.publish(Some(organization), &[Topic::Workspaces]);
        Ok(())
    }

    /// Accepts the certificate that was refused last: from now on the upstream must present it.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid` when it is no fingerprint; `Conflict` when it is not the
    /// one offered, or the workspace's rule is a certificate authority.
    pub async fn accept(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
        fingerprint: impl TryInto<Fingerprint, Error: Into<Error>>,
    ) -> Result<()> {
        let tried = self.store.entry(source, Action::PinCertificate).on_workspace_id(id);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ManageWorkspaces, tried).await?;
        let fingerprint: Fingerprint = validate::convert(fingerprint)?;
        let entry = self.store.entry(source, Action::PinCertificate).by_caller(caller);
        let key = WorkspaceKey { organization_id: organization, id: id.clone() };
        let id = id.clone();
        let (workspace, sessions) = self
            .store
            .transact(move |tx| {
                let Some(mut workspace) = tx.workspace(&key)? else {
                    let entry = entry.clone().access_denied().on_workspace_id(&id);
                    return tx.deny(&entry.denied(Reason::Unknown), Error::not_found(WORKSPACE));
                };
                let entry = entry.clone().on_workspace(&workspace).with("fingerprint", fingerprint.to_string());
                let state = tx.upstream_state(&key)?;
                let Some(offered) = state.offered.filter(|offered| offered.fingerprint == fingerprint) else {
                    let error = Error::conflict("This is not the certificate that the server showed last. Look at it again.");
                    return tx.deny(&entry.denied(Reason::NotOffered), error);
                };
                let mut fields = workspace.driver().fields();
                let before = match &fields.upstream.trust {
                    TrustRule::FirstUse => state.pinned.map(|(pin, _)| pin),
                    TrustRule::Pinned(pin) => Some(*pin),
                    TrustRule::Authority { .. } => {
                        let error =
                            Error::conflict("This workspace trusts certificate authorities. Change its rule to trust a single certificate.");
                        return tx.deny(&entry.denied(Reason::Authority), error);
                    }
                };
                if let TrustRule::Pinned(pin) = &mut fields.upstream.trust {
                    *pin = fingerprint;
                    workspace.spec = WorkspaceSpec::from_fields(workspace.kind(), fields)?;
                    workspace.updated_at = entry.now();
                    tx.update_workspace(&workspace)?;
                }
                tx.replace_pinned_certificate(&key, fingerprint, &offered.subject, entry.now())?;
                let entry = entry.reason(Reason::Accepted).with("subject", offered.subject).with("before", before.map(|pin| pin.to_string()));
                tx.add_entry(&entry);
                let sessions = tx.live_sessions_of_workspace(&key)?;
                Ok(Decision::Allowed((workspace, sessions)))
            })
            .await?;
        self.streams.revoke_outdated_in(&workspace, &sessions);
        self.changes.publish(Some(organization), &[Topic::Workspaces]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::sanitize_line;

    #[test]
    fn foreign_text_is_sanitized() {
        assert_eq!(sanitize_line(" CN=host\r\nx\u{0}"), "CN=host  x");
        let long = sanitize_line(&"ü".repeat(500));
        assert!(long.len() <= 200 && long.chars().all(|c| c == 'ü'));
    }
}
