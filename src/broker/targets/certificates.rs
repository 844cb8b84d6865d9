//! Certificates of upstreams, and audit entries about streams.
//!
//! | term | meaning |
//! | --- | --- |
//! | pinned | recorded at first use, or accepted by an administrator; another certificate is refused and stored as *offered* |
//! | [`TransferRefusal`] | what policy kept from passing in a stream: how much, never its content |

use crate::broker::Broker;
use crate::broker::core::answers::WORKSPACE;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::stream_registry::Topic;
use crate::broker::core::text::json_int;
use crate::broker::core::text::sanitize_line;
use crate::broker::model::CertificateCheck;
use crate::broker::model::PresentedCertificate;
use crate::broker::model::TransferRefusal;
use crate::domain::audit::Action;
use crate::domain::lease::Lease;
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::session::State;
use crate::domain::upstream::{Fingerprint, TrustRule};
use crate::domain::user::RequestSource;
use crate::domain::workspace::OfferedCertificate;
use crate::domain::{Error, Result, WorkspaceId};

impl PresentedCertificate {
    pub(in crate::broker) fn offered(&self, note: &AuditEntryBuilder) -> OfferedCertificate {
        OfferedCertificate {
            fingerprint: self.fingerprint,
            at: note.now(),
            subject: sanitize_line(&self.subject),
        }
    }
}

impl Broker {
    fn stream_entry(
        &self,
        origin: &RequestSource,
        action: Action,
        lease: &Lease,
        by: Option<&Principal>,
    ) -> AuditEntryBuilder {
        let note = self.audit_entry(origin, action).on_session(lease.session());
        match by {
            Some(caller) => note.by_caller(caller),
            None => note.by_system(),
        }
    }

    /// Compares an upstream's certificate with the pinned one, and pins it if none is pinned. For
    /// [`TrustRule::FirstUse`]; the other rules are decided where the certificate is received, and
    /// their refusals are recorded with [`Broker::refuse_certificate`].
    ///
    /// # Errors
    /// When the store cannot be read or written; then the certificate is not trusted.
    pub async fn check_certificate(
        &self,
        origin: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        seen: &PresentedCertificate,
    ) -> Result<CertificateCheck> {
        let id = lease.session().workspace_id.clone();
        let looked = id.clone();
        let pinned =
            self.inner.store.read(move |tx| Ok(tx.upstream_state(&looked)?.pinned)).await?;
        if pinned.is_some_and(|(pin, _)| pin == seen.fingerprint) {
            return Ok(CertificateCheck::Trusted);
        }
        let note = self
            .stream_entry(origin, Action::PinCertificate, lease, by)
            .with("fingerprint", seen.fingerprint.to_string());
        let offered = seen.offered(&note);
        let note = note.with("subject", offered.subject.clone());
        let (session, organization) = (lease.session().id, lease.session().organization_id);
        let met = self
            .write(move |book| {
                // If the session ended meanwhile, the workspace may name another target now.
                let holds = book.session(session)?.is_some_and(|s| s.state == State::Active);
                if holds
                    && book.pin_certificate_if_none(
                        &id,
                        offered.fingerprint,
                        &offered.subject,
                        note.now(),
                    )?
                {
                    book.add_entry(&note.clone().reason("recorded"));
                    return Ok(CertificateCheck::Trusted);
                }
                let expected = book.upstream_state(&id)?.pinned.map(|(pin, _)| pin);
                if holds && expected == Some(offered.fingerprint) {
                    return Ok(CertificateCheck::Trusted);
                }
                book.set_offered_certificate(&id, &offered)?;
                let note = note
                    .clone()
                    .action(Action::CertificateRefused)
                    .with("expected", expected.map(|pin| pin.to_string()));
                book.add_entry(&note.denied("changed"));
                Ok(CertificateCheck::Refused)
            })
            .await?;
        self.streams().publish(Some(organization), &[Topic::Workspaces]);
        Ok(met)
    }

    /// Audits a refused certificate and stores it as offered. `why` is a reason such as
    /// `not_pinned`, `untrusted`, `wrong_name`, `expired`.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn refuse_certificate(
        &self,
        origin: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        seen: &PresentedCertificate,
        why: &'static str,
    ) -> Result<()> {
        let id = lease.session().workspace_id.clone();
        let note = self
            .stream_entry(origin, Action::CertificateRefused, lease, by)
            .with("fingerprint", seen.fingerprint.to_string())
            .denied(why);
        let offered = seen.offered(&note);
        let note = note.with("subject", offered.subject.clone());
        let organization = lease.session().organization_id;
        self.write(move |book| {
            book.set_offered_certificate(&id, &offered)?;
            book.add_entry(&note);
            Ok(())
        })
        .await?;
        self.streams().publish(Some(organization), &[Topic::Workspaces]);
        Ok(())
    }

    /// Audits that an upstream rejected the credential. `why` is a reason such as `wrong_password`,
    /// `locked`, `expired`.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn login_refused(
        &self,
        origin: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        why: &'static str,
    ) -> Result<()> {
        let server = lease.upstream();
        let note = self
            .stream_entry(origin, Action::LoginRefused, lease, by)
            .denied(why)
            .with("source", server.credential_source.as_str());
        let told = |text: &str| Some(sanitize_line(text)).filter(|text| !text.is_empty());
        let credential = server.credential.as_ref();
        let note = note
            .with("username", credential.and_then(|c| told(&c.username)))
            .with("domain", credential.and_then(|c| told(&c.domain)));
        self.write_entry(note).await
    }

    /// Audits what policy kept from passing in a stream.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn transfer_refused(
        &self,
        origin: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        refused: &TransferRefusal,
    ) -> Result<()> {
        let note = self.stream_entry(origin, Action::TransferRefused, lease, by).denied("policy");
        let note = note.with("channel", refused.channel).with("direction", refused.direction);
        self.write_entry(
            note.with("bytes", json_int(refused.bytes)).with("count", json_int(refused.count)),
        )
        .await
    }

    /// Audits that a client asked for another destination than its session's.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn destination_refused(
        &self,
        origin: &RequestSource,
        lease: &Lease,
        by: Option<&Principal>,
        asked: &str,
    ) -> Result<()> {
        let note = self
            .stream_entry(origin, Action::DestinationRefused, lease, by)
            .denied("not_the_sessions");
        self.write_entry(note.with("asked", sanitize_line(asked))).await
    }

    /// Accepts the certificate that was refused last: from now on the upstream must present it.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid` when it is no fingerprint; `Conflict` when it is not the
    /// one offered, or the workspace's rule is a certificate authority.
    pub async fn accept_certificate(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: &WorkspaceId,
        fingerprint: &str,
    ) -> Result<()> {
        let organization =
            self.permit(origin, caller, PolicyAction::ManageWorkspaces).await?.organization_id();
        let fingerprint = Fingerprint::parse(fingerprint).ok_or_else(|| {
            Error::invalid("fingerprint must be a SHA-256: 64 hexadecimal digits.")
        })?;
        let note = self.audit_entry(origin, Action::PinCertificate).by_caller(caller);
        let id = id.clone();
        let (workspace, sessions) = self
            .transact(move |book| {
                let Some(mut workspace) = book.workspace(&id)?.filter(|w| w.organization_id == organization) else {
                    let note = note.clone().action(Action::AccessDenied).on_workspace_id(&id);
                    return book.deny(&note.denied("unknown"), Error::not_found(WORKSPACE));
                };
                let note = note.clone().on_workspace(&workspace).with("fingerprint", fingerprint.to_string());
                let state = book.upstream_state(&id)?;
                let Some(offered) = state.offered.filter(|offered| offered.fingerprint == fingerprint) else {
                    let error = Error::conflict("This is not the certificate that the server showed last. Look at it again.");
                    return book.deny(&note.denied("not_offered"), error);
                };
                let before = match &workspace.upstream.trust {
                    TrustRule::FirstUse => state.pinned.map(|(pin, _)| pin),
                    TrustRule::Pinned(pin) => Some(*pin),
                    TrustRule::Authority { .. } => {
                        let error =
                            Error::conflict("This workspace trusts certificate authorities. Change its rule to trust a single certificate.");
                        return book.deny(&note.denied("authority"), error);
                    }
                };
                if let TrustRule::Pinned(pin) = &mut workspace.upstream.trust {
                    *pin = fingerprint;
                    workspace.updated_at = note.now();
                    book.update_workspace(&workspace)?;
                }
                book.replace_pinned_certificate(&id, fingerprint, &offered.subject, note.now())?;
                let note = note.reason("accepted").with("subject", offered.subject).with("before", before.map(|pin| pin.to_string()));
                book.add_entry(&note);
                let sessions = book.live_sessions_of_workspace(&id)?;
                Ok(Ok((workspace, sessions)))
            })
            .await?;
        self.revoke_outdated_streams(&workspace, &sessions);
        self.streams().publish(Some(organization), &[Topic::Workspaces]);
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
