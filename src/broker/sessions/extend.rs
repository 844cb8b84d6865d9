//! Extending a session: its user has it end later, as far as its workspace and the installation allow.

use crate::broker::core::answers::{
    SESSION, denial_error, hidden_reason, invalid_token, not_active,
};
use crate::broker::core::text::{json_int, millis_u64};
use crate::broker::core::unit_of_work::{AuditedTx, Decision};
use crate::broker::model::SessionView;
use crate::broker::sessions::list::Sessions;
use crate::broker::sessions::view::WorkspaceTerms;
use crate::domain::audit::{Action, Reason};
use crate::domain::policy;
use crate::domain::principal::Principal;
use crate::domain::session::{Event, Session};
use crate::domain::user::RequestSource;
use crate::domain::workspace::Workspace;
use crate::domain::{Error, Result, SessionId};
use std::time::Duration;

/// How often a session is read again that another transaction changes meanwhile.
const CAS_ATTEMPTS: usize = 8;

impl Sessions {
    /// Has the caller's own active session end later by `by`. Its streams go on.
    ///
    /// # Errors
    /// `NotFound` when it is not theirs; `Forbidden` when their role may not launch its workspace any
    /// more; `Conflict` when it is not active, or would last longer than it may.
    pub async fn extend(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: SessionId,
        by: Duration,
    ) -> Result<SessionView> {
        let now = self.store.now();
        let entry = self
            .store
            .entry(source, Action::ExtendSession)
            .by_caller(caller)
            .with("extended_by_ms", json_int(millis_u64(by)));
        let (who, context) = (caller.clone(), self.store.policy_context(source, caller));
        let tracker = self.views.tracker.clone();
        let (session, workspace) = self
            .store
            .transact(move |tx| {
                for _ in 0..CAS_ATTEMPTS {
                    let found = tx.session(id)?;
                    let why = hidden_reason(&who, found.as_ref().map(|s| s.organization_id));
                    let Some(session) = found.filter(|s| s.principal == who.id()) else {
                        let entry = entry.clone().access_denied().on_session_id(id);
                        return tx.deny(&entry.denied(why), Error::not_found(SESSION));
                    };
                    let entry = entry.clone().on_session(&session);
                    if !tx.principal_is_valid(&who, now)? {
                        return tx.deny(&entry.denied(Reason::SignedOut), invalid_token());
                    }
                    let Some(workspace) = workspace_of(tx, &session)? else {
                        return tx.deny(&entry.denied(Reason::Unknown), not_active());
                    };
                    if let Err(denial) =
                        policy::authorize_extension(&who, &session, &workspace, &context)
                    {
                        return tx.deny(&entry.denied(denial), denial_error(denial, SESSION));
                    }
                    let times = tracker.times(workspace.session_limits);
                    let until = match times.extended_end(session.created_at, session.expires_at, by)
                    {
                        Ok(until) => until,
                        Err(limit) => {
                            let error = Error::conflict(limit.user_message());
                            return tx.deny(&entry.denied(Reason::DurationLimit), error);
                        }
                    };
                    let Ok(next) = session.apply(Event::Extend(until), now) else {
                        return tx.deny(&entry.denied(Reason::NotActive), not_active());
                    };
                    if tx.update_session(&next, session.version, now)? {
                        tx.add_entry(&entry.with("expires_at", next.expires_at.to_string()));
                        return Ok(Decision::Allowed((next, workspace)));
                    }
                }
                Err(Error::unavailable("Too much happened to this session at once. Try again."))
            })
            .await?;
        // Who extends a session is there.
        self.views.tracker.input_counter(session.id).record();
        self.teardown.changes.publish_session(&session, workspace.single_seat);
        let terms = WorkspaceTerms::of(&workspace);
        Ok(self.views.session_view(session, Some(terms), now))
    }
}

/// A session's workspace, unless it is gone or another organization's.
fn workspace_of(tx: &mut AuditedTx<'_, '_>, session: &Session) -> Result<Option<Workspace>> {
    let workspace = tx.workspace(&session.workspace_key())?;
    Ok(workspace.filter(|workspace| workspace.organization_id == session.organization_id))
}
