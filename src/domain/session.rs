//! A session: one principal's live or past connection to one workspace, and its state machine.
//!
//! ```text
//!  Queued --Admit--> Creating --Ready--> Active (--Extend--> Active)
//!     \                 |                  |
//!      \---- Close(reason) ---------------/
//!                       v
//!               Closing(reason) --Release--> Closed(reason)
//! ```
//!
//! `Closing`: nobody may use it any more; its desktop and its tunnel's keys are being removed.
//! `Closed`: they are removed.

use super::principal::PrincipalId;
use super::route::SessionRoute;
use super::user::Mfa;
use super::workspace::WorkspaceKind;
use super::{
    HostId, LoginId, OrganizationId, SessionId, Timestamp, UserId, WorkspaceId, WorkspaceKey,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Why a session ended. The first reason stays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    UserDisconnected,
    WorkspaceStopped,
    /// An administrator stopped the workspace or terminated the session.
    AdminStopped,
    SignedOut,
    /// An administrator signed its user out.
    SignedOutByAdmin,
    UserDisabled,
    WorkspaceRemoved,
    Expired,
    /// There was no input for its idle timeout.
    IdleTimeout,
    /// Its host, or the desktop on it, is gone.
    HostLost,
    /// The agent of its host was restarted, which ended the desktop.
    HostRestarted,
    LaunchFailed,
}

impl EndReason {
    pub const ALL: [Self; 12] = [
        Self::UserDisconnected,
        Self::WorkspaceStopped,
        Self::AdminStopped,
        Self::SignedOut,
        Self::SignedOutByAdmin,
        Self::UserDisabled,
        Self::WorkspaceRemoved,
        Self::Expired,
        Self::IdleTimeout,
        Self::HostLost,
        Self::HostRestarted,
        Self::LaunchFailed,
    ];

    /// Its name in APIs, in the store and in the close frame of a stream.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserDisconnected => "user_disconnected",
            Self::WorkspaceStopped => "workspace_stopped",
            Self::AdminStopped => "admin_stopped",
            Self::SignedOut => "signed_out",
            Self::SignedOutByAdmin => "signed_out_by_admin",
            Self::UserDisabled => "user_disabled",
            Self::WorkspaceRemoved => "workspace_removed",
            Self::Expired => "expired",
            Self::IdleTimeout => "idle_timeout",
            Self::HostLost => "host_lost",
            Self::HostRestarted => "host_restarted",
            Self::LaunchFailed => "launch_failed",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == name)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    Queued,
    /// Its desktop and tunnel are being created.
    Creating,
    Active,
    Closing(EndReason),
    Closed(EndReason),
}

impl State {
    /// Its name in the store; the reason is a column of its own.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Creating => "creating",
            Self::Active => "active",
            Self::Closing(_) => "closing",
            Self::Closed(_) => "closed",
        }
    }

    /// The state of a stored name and reason; `None` when they contradict each other.
    #[must_use]
    pub fn parse(name: &str, reason: Option<EndReason>) -> Option<Self> {
        match (name, reason) {
            ("queued", None) => Some(Self::Queued),
            ("creating", None) => Some(Self::Creating),
            ("active", None) => Some(Self::Active),
            ("closing", Some(r)) => Some(Self::Closing(r)),
            ("closed", Some(r)) => Some(Self::Closed(r)),
            _ => None,
        }
    }

    /// Every state before `Closed`.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            Self::Queued | Self::Creating | Self::Active | Self::Closing(_) => true,
            Self::Closed(_) => false,
        }
    }

    #[must_use]
    pub fn end_reason(self) -> Option<EndReason> {
        match self {
            Self::Closing(r) | Self::Closed(r) => Some(r),
            Self::Queued | Self::Creating | Self::Active => None,
        }
    }
}

/// Selects the sessions of a listing. Sessions that are queued or being created are in none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SessionFilter {
    /// Active or ended.
    #[default]
    Any,
    Active,
    /// Closing or closed, for one of these reasons.
    Ended(&'static [EndReason]),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    Admit,
    /// The tunnel has completed its handshake and the workspace answers.
    Ready,
    /// It ends later. An earlier time changes nothing.
    Extend(Timestamp),
    Close(EndReason),
    /// Its desktop and keys were removed.
    Release,
}

/// The event does not apply to the state; nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a session that is {state:?} cannot take {event:?}")]
pub struct IllegalTransition {
    pub state: State,
    pub event: Event,
}

/// The only transition function: total over states and events.
///
/// # Errors
/// [`IllegalTransition`] when the event does not apply to the state.
pub fn apply(state: State, event: Event) -> Result<State, IllegalTransition> {
    let illegal = Err(IllegalTransition { state, event });
    match (state, event) {
        (State::Queued, Event::Admit) => Ok(State::Creating),
        (State::Creating, Event::Ready) | (State::Active, Event::Extend(_)) => Ok(State::Active),
        (State::Queued | State::Creating | State::Active, Event::Close(reason)) => {
            Ok(State::Closing(reason))
        }
        (State::Closing(reason), Event::Release) => Ok(State::Closed(reason)),
        (State::Queued, Event::Ready | Event::Extend(_) | Event::Release)
        | (State::Creating, Event::Admit | Event::Extend(_) | Event::Release)
        | (State::Active, Event::Admit | Event::Ready | Event::Release)
        | (State::Closing(_), Event::Admit | Event::Ready | Event::Extend(_) | Event::Close(_))
        | (
            State::Closed(_),
            Event::Admit | Event::Ready | Event::Extend(_) | Event::Close(_) | Event::Release,
        ) => illegal,
    }
}

/// A session. The attributes of its principal, workspace and host are copied at launch, so that the
/// history stays true when they change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    pub id: SessionId,
    pub organization_id: OrganizationId,
    /// Who launched it, and alone may use it.
    pub principal: PrincipalId,
    /// The user's e-mail address, or the key's name, at launch.
    pub principal_name: String,
    /// The login it was launched from; `None` unless a user launched it.
    pub login_id: Option<LoginId>,
    pub workspace_id: WorkspaceId,
    pub workspace_name: String,
    pub workspace_kind: WorkspaceKind,
    /// The host it runs on; `None` for a direct target.
    pub host_id: Option<HostId>,
    pub route: SessionRoute,
    pub state: State,
    /// Its address inside its tunnel, unique among the live sessions that have one of their own;
    /// else the address of its host, or of its direct target at launch.
    pub address: IpAddr,
    /// The second factor verified for it.
    pub mfa: Option<Mfa>,
    /// The host's public key in this session's tunnel, standard base64; known once the host
    /// answered.
    pub peer_public_key: Option<String>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    /// Incremented by every change; compared by compare-and-set.
    pub version: i64,
}

impl Session {
    /// The workspace it is of.
    #[must_use]
    pub fn workspace_key(&self) -> WorkspaceKey {
        WorkspaceKey { organization_id: self.organization_id, id: self.workspace_id.clone() }
    }

    /// The session after `event` at `now`: state, times and version.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the event does not apply.
    pub fn apply(&self, event: Event, now: Timestamp) -> Result<Self, IllegalTransition> {
        let state = apply(self.state, event)?;
        let mut next = Self { state, version: self.version + 1, ..self.clone() };
        match event {
            Event::Extend(until) => next.expires_at = until.max(self.expires_at),
            Event::Admit | Event::Ready | Event::Close(_) | Event::Release => {}
        }
        match state {
            State::Queued | State::Creating | State::Closing(_) => {}
            State::Active => next.started_at = self.started_at.or(Some(now)),
            State::Closed(_) => {
                next.ended_at = Some(now.max(self.started_at.unwrap_or(self.created_at)))
            }
        }
        Ok(next)
    }

    #[must_use]
    pub fn user_id(&self) -> Option<UserId> {
        self.principal.user_id()
    }

    /// The user's e-mail address at launch.
    #[must_use]
    pub fn user_email(&self) -> Option<&str> {
        self.user_id().map(|_| self.principal_name.as_str())
    }

    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// How long it has been, or was, active.
    #[must_use]
    pub fn duration(&self, now: Timestamp) -> Duration {
        self.started_at.map_or(Duration::ZERO, |from| self.ended_at.unwrap_or(now).since(from))
    }
}

#[cfg(test)]
mod tests;
