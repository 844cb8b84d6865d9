//! Sessions: listing, disconnect, termination.

use crate::broker::Broker;
use crate::broker::core::answers::denial_error;
use crate::broker::core::answers::not_active;
use crate::broker::core::answers::{SESSION, organization_of};
use crate::broker::core::teardown::TeardownEffects;
use crate::broker::core::validate;
use crate::broker::model::{Page, SessionQuery, SessionView};
use crate::broker::model::{TunnelReport, TunnelState};
use crate::domain::audit::Action;
use crate::domain::policy::{Denial, PolicyAction};
use crate::domain::principal::Principal;
use crate::domain::route::SessionRoute;
use crate::domain::session::{EndReason, Session};
use crate::domain::upstream::StreamPolicy;
use crate::domain::user::RequestSource;
use crate::domain::{Error, Result, SessionId, Timestamp};
use std::collections::HashMap;

/// Report of a session without a tunnel here: down, or none for a direct target.
fn absent_tunnel(session: &Session) -> TunnelReport {
    let state = if matches!(session.route, SessionRoute::Direct(_)) {
        TunnelState::None
    } else {
        TunnelState::Down
    };
    TunnelReport {
        state,
        last_handshake_at: None,
        tx_bytes: 0,
        rx_bytes: 0,
        rtt: None,
        desktop_rtt: None,
        retransmits: 0,
        endpoint: None,
    }
}

impl Broker {
    pub(in crate::broker) fn tunnel_report(&self, session: &Session) -> TunnelReport {
        let tunnel =
            if session.state.is_live() { self.inner.fleet.tunnel(session.id) } else { None };
        tunnel.unwrap_or_else(|| absent_tunnel(session))
    }

    /// A session with its tunnel's report, its stream counts and its workspace's policy.
    pub(in crate::broker) fn session_view(
        &self,
        session: Session,
        policy: Option<StreamPolicy>,
    ) -> SessionView {
        let (viewers, browser_rtt) = self.streams().stream_stats(session.id);
        let tunnel = self.tunnel_report(&session);
        SessionView { session, tunnel, browser_rtt, viewers, policy }
    }

    fn session_views(
        &self,
        sessions: Vec<Session>,
        policies: &HashMap<String, StreamPolicy>,
    ) -> Vec<SessionView> {
        let view = |session: Session| {
            let policy = policies.get(session.workspace_id.as_str()).copied();
            self.session_view(session, policy)
        };
        sessions.into_iter().map(view).collect()
    }

    /// The caller's own sessions, newest first.
    ///
    /// # Errors
    /// `Invalid` when limit or cursor are not acceptable.
    pub async fn sessions(
        &self,
        caller: &Principal,
        query: SessionQuery,
    ) -> Result<Page<SessionView>> {
        let limit = validate::page_limit(query.limit, 100)?;
        let before =
            query.cursor.as_deref().map(validate::parse_cursor::<i64, SessionId>).transpose()?;
        let before = before.map(|(at, id)| (Timestamp(at), id));
        let filter = query.filter;
        let user = self.require_user(&RequestSource::local(""), caller).await?.user.id;
        let organization = organization_of(caller)?;
        let (rows, policies) = self
            .inner
            .store
            .read(move |tx| {
                Ok((
                    tx.sessions_page(user, filter, before, limit + 1)?,
                    tx.stream_policies(organization)?,
                ))
            })
            .await?;
        let page =
            validate::page(rows, limit, |s: &Session| format!("{}.{}", s.created_at.0, s.id));
        let items = self.session_views(page.items, &policies);
        Ok(Page { items, next_cursor: page.next_cursor })
    }

    /// One of the caller's own sessions.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it is not theirs.
    pub async fn session(&self, caller: &Principal, id: SessionId) -> Result<SessionView> {
        let found = self
            .inner
            .store
            .read(move |tx| {
                let Some(session) = tx.session(id)? else { return Ok(None) };
                let workspace = tx.workspace(&session.workspace_id)?;
                let policy = workspace
                    .filter(|w| w.organization_id == session.organization_id)
                    .map(|w| w.policy);
                Ok(Some((session, policy)))
            })
            .await?;
        match found {
            Some((session, policy)) if session.principal == caller.id() => {
                Ok(self.session_view(session, policy))
            }
            other => {
                let reason = if other.is_some() { Denial::NotOwner.as_str() } else { "unknown" };
                let note = self.entry_from_login(caller, Action::AccessDenied).await?;
                self.write_entry(note.on_session_id(id).denied(reason)).await?;
                Err(Error::not_found(SESSION))
            }
        }
    }

    /// Disconnects the caller's own session; returns when its desktop and keys are gone.
    ///
    /// # Errors
    /// `NotFound` when it is not theirs; `Conflict` "Session is not active" when it ended before.
    pub async fn disconnect(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: SessionId,
    ) -> Result<()> {
        let owner = caller.id();
        self.end_session(
            origin,
            caller,
            id,
            Action::DisconnectSession,
            EndReason::UserDisconnected,
            move |s| s.principal == owner,
        )
        .await
    }

    /// Terminates any session of the organization.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Conflict` when it ended before.
    pub async fn terminate(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: SessionId,
    ) -> Result<()> {
        let organization =
            self.permit(origin, caller, PolicyAction::TerminateSessions).await?.organization_id();
        let inside = move |s: &Session| s.organization_id == organization;
        self.end_session(
            origin,
            caller,
            id,
            Action::TerminateSession,
            EndReason::AdminStopped,
            inside,
        )
        .await
    }

    async fn end_session(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: SessionId,
        action: Action,
        reason: EndReason,
        theirs: impl Fn(&Session) -> bool + Send + Sync + 'static,
    ) -> Result<()> {
        let note = self.audit_entry(origin, action).by_caller(caller);
        let broker = self.clone();
        self.spawn_to_completion(async move {
            let closed = broker
                .transact(move |book| {
                    let session = book.session(id)?;
                    let why = if session.is_some() { Denial::NotOwner.as_str() } else { "unknown" };
                    let Some(session) = session.filter(&theirs) else {
                        let note = note.clone().action(Action::AccessDenied).on_session_id(id);
                        return book
                            .deny(&note.denied(why), denial_error(Denial::NotOwner, SESSION));
                    };
                    let note =
                        note.clone().on_session(&session).with("user_email", session.user_email());
                    match book.close(&session, reason, &note)? {
                        Some(closed) => Ok(Ok(closed)),
                        None => book.deny(&note.denied(Denial::NotActive.as_str()), not_active()),
                    }
                })
                .await?;
            broker.apply_effects(TeardownEffects::session(closed)).await
        })
        .await
    }

    /// Every live session of the organization, newest first.
    ///
    /// # Errors
    /// `Forbidden`.
    pub async fn all_live_sessions(
        &self,
        origin: &RequestSource,
        caller: &Principal,
    ) -> Result<Vec<SessionView>> {
        let organization =
            self.permit(origin, caller, PolicyAction::ReadLiveSessions).await?.organization_id();
        let (mut rows, policies) = self
            .inner
            .store
            .read(move |tx| {
                Ok((tx.live_sessions(Some(organization))?, tx.stream_policies(organization)?))
            })
            .await?;
        rows.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.id)));
        Ok(self.session_views(rows, &policies))
    }
}
