//! Sessions: listing, and their end by their user or an administrator.

use crate::broker::core::answers::{SESSION, hidden_reason, not_active, organization_of};
use crate::broker::core::task::spawn_to_completion;
use crate::broker::core::teardown::{Teardown, TeardownEffects};
use crate::broker::core::unit_of_work::{AuditedStore, Decision};
use crate::broker::core::validate;
use crate::broker::model::{Page, PageQuery, SessionQuery, SessionView};
use crate::broker::sessions::view::{SessionViews, WorkspaceTerms, load_terms};
use crate::domain::audit::Action;
use crate::domain::policy::{Denial, PolicyAction};
use crate::domain::principal::Principal;
use crate::domain::session::{EndReason, Session};
use crate::domain::user::RequestSource;
use crate::domain::{Error, Result, SessionId, Timestamp};
use std::collections::HashMap;

#[derive(Clone)]
pub struct Sessions {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) views: SessionViews,
    pub(in crate::broker) teardown: Teardown,
}

impl Sessions {
    /// The caller's own sessions, newest first.
    ///
    /// # Errors
    /// `Invalid` when limit or cursor are not acceptable.
    pub async fn list(&self, caller: &Principal, query: SessionQuery) -> Result<Page<SessionView>> {
        let limit = validate::page_limit(query.limit, 100)?;
        let before = position(query.cursor.as_deref())?;
        let filter = query.filter;
        let user = self.store.require_user(&RequestSource::local(""), caller).await?.user.id;
        let organization = organization_of(caller)?;
        let (rows, terms) = self
            .store
            .list(move |tx| {
                let rows = tx.sessions_page(user, filter, before, limit + 1)?;
                let terms = load_terms(tx, organization, &rows)?;
                Ok((rows, terms))
            })
            .await?;
        Ok(self.page(rows, limit, &terms))
    }

    /// A page of rows, each with what its tunnel and streams report now.
    fn page(
        &self,
        rows: Vec<Session>,
        limit: usize,
        terms: &HashMap<String, WorkspaceTerms>,
    ) -> Page<SessionView> {
        let page =
            validate::page(rows, limit, |s: &Session| format!("{}.{}", s.created_at.0, s.id));
        let items = self.views.session_views(page.items, terms, self.store.now());
        Page { items, next_cursor: page.next_cursor }
    }

    /// One of the caller's own sessions.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it is not theirs.
    pub async fn get(&self, caller: &Principal, id: SessionId) -> Result<SessionView> {
        let found = self
            .store
            .read(move |tx| {
                let Some(session) = tx.session(id)? else { return Ok(None) };
                let workspace = tx.workspace(&session.workspace_key())?;
                let terms = workspace
                    .filter(|w| w.organization_id == session.organization_id)
                    .map(|w| WorkspaceTerms::of(&w));
                Ok(Some((session, terms)))
            })
            .await?;
        match found {
            Some((session, terms)) if session.principal == caller.id() => {
                Ok(self.views.session_view(session, terms, self.store.now()))
            }
            other => {
                let reason =
                    hidden_reason(caller, other.map(|(session, _)| session.organization_id));
                let entry = self.store.entry_from_login(caller, Action::AccessDenied).await?;
                self.store.write_entry(entry.on_session_id(id).denied(reason)).await?;
                Err(Error::not_found(SESSION))
            }
        }
    }

    /// Ends the caller's own session; returns when its desktop and keys are gone.
    ///
    /// # Errors
    /// `NotFound` when it is not theirs; `Conflict` "Session is not active" when it ended before.
    pub async fn disconnect(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: SessionId,
    ) -> Result<()> {
        let owner = caller.id();
        self.end_session(
            source,
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
        source: &RequestSource,
        caller: &Principal,
        id: SessionId,
    ) -> Result<()> {
        let tried = self.store.entry(source, Action::TerminateSession).on_session_id(id);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::TerminateSessions, tried).await?;
        let inside = move |s: &Session| s.organization_id == organization;
        self.end_session(
            source,
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
        source: &RequestSource,
        caller: &Principal,
        id: SessionId,
        action: Action,
        reason: EndReason,
        theirs: impl Fn(&Session) -> bool + Send + Sync + 'static,
    ) -> Result<()> {
        let entry = self.store.entry(source, action).by_caller(caller);
        let (this, who) = (self.clone(), caller.clone());
        spawn_to_completion(async move {
            let closed = this
                .store
                .transact(move |tx| {
                    let session = tx.session(id)?;
                    let why = hidden_reason(&who, session.as_ref().map(|s| s.organization_id));
                    let Some(session) = session.filter(&theirs) else {
                        let entry = entry.clone().access_denied().on_session_id(id);
                        return tx.deny(&entry.denied(why), Error::not_found(SESSION));
                    };
                    let entry =
                        entry.clone().on_session(&session).with("user_email", session.user_email());
                    match tx.close(&session, reason, &entry)? {
                        Some(closed) => Ok(Decision::Allowed(closed)),
                        None => tx.deny(&entry.denied(Denial::NotActive), not_active()),
                    }
                })
                .await?;
            this.teardown.apply_effects(TeardownEffects::session(closed)).await
        })
        .await
    }

    /// The live sessions of the organization, newest first.
    ///
    /// # Errors
    /// `Forbidden`; `Invalid` when limit or cursor are not acceptable.
    pub async fn list_live(
        &self,
        source: &RequestSource,
        caller: &Principal,
        query: PageQuery,
    ) -> Result<Page<SessionView>> {
        let organization = self
            .store
            .permit(source, caller, PolicyAction::ReadLiveSessions)
            .await?
            .organization_id();
        let limit = validate::page_limit(query.limit, 100)?;
        let before = position(query.cursor.as_deref())?;
        let (rows, terms) = self
            .store
            .list(move |tx| {
                let rows = tx.live_sessions_page(organization, before, limit + 1)?;
                let terms = load_terms(tx, organization, &rows)?;
                Ok((rows, terms))
            })
            .await?;
        Ok(self.page(rows, limit, &terms))
    }
}

/// The position of a cursor: time of creation and id.
fn position(cursor: Option<&str>) -> Result<Option<(Timestamp, SessionId)>> {
    let position = cursor.map(validate::parse_cursor::<i64, SessionId>).transpose()?;
    Ok(position.map(|(at, id)| (Timestamp(at), id)))
}
