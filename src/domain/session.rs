//! A session: one user's live or past connection to one workspace, and the machine its life
//! follows.
//!
//! ```text
//!  Queued --Admit--> Creating --Ready--> Active
//!     \                 |                  |
//!      \---- Close(reason) ---------------/
//!                       v
//!               Closing(reason) --Release--> Closed(reason)
//! ```
//!
//! `CloseGuard` means: nobody may use it any more; its desktop and its tunnel's keys are being taken
//! away. `Closed`: they are gone.

use super::route::SessionRoute;
use super::user::Mfa;
use super::workspace::WorkspaceKind;
use super::{HostId, LoginId, OrganizationId, SessionId, Timestamp, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Why a session ended. The first reason given stays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its user disconnected it.
    UserDisconnected,
    /// Its user stopped the workspace.
    WorkspaceStopped,
    /// An admin stopped the workspace or terminated the session.
    AdminStopped,
    /// Its user signed out everywhere.
    SignedOut,
    /// An admin signed its user out.
    SignedOutByAdmin,
    /// Its user was disabled.
    UserDisabled,
    /// Its workspace was removed.
    WorkspaceRemoved,
    /// Its time was over.
    Expired,
    /// Its host, or the desktop on it, is gone.
    HostLost,
    /// It never became active.
    LaunchFailed,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::UserDisconnected,
        Self::WorkspaceStopped,
        Self::AdminStopped,
        Self::SignedOut,
        Self::SignedOutByAdmin,
        Self::UserDisabled,
        Self::WorkspaceRemoved,
        Self::Expired,
        Self::HostLost,
        Self::LaunchFailed,
    ];

    /// Its word in APIs, in the store and in the close frame of a stream.
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
            Self::HostLost => "host_lost",
            Self::LaunchFailed => "launch_failed",
        }
    }

    /// The reason of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == word)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a session is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Waits for a place.
    Queued,
    /// Its desktop and tunnel are being made.
    Creating,
    /// Can be used.
    Active,
    /// Is being taken down.
    Closing(EndReason),
    /// Is over.
    Closed(EndReason),
}

impl State {
    /// Its word in the store; the reason is a column of its own.
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

    /// The state of a stored word and reason; `None` when they do not fit.
    #[must_use]
    pub fn parse(word: &str, reason: Option<EndReason>) -> Option<Self> {
        match (word, reason) {
            ("queued", None) => Some(Self::Queued),
            ("creating", None) => Some(Self::Creating),
            ("active", None) => Some(Self::Active),
            ("closing", Some(r)) => Some(Self::Closing(r)),
            ("closed", Some(r)) => Some(Self::Closed(r)),
            _ => None,
        }
    }

    /// Holds a seat: anything before `Closed`.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            Self::Queued | Self::Creating | Self::Active | Self::Closing(_) => true,
            Self::Closed(_) => false,
        }
    }

    /// Why it ends or ended.
    #[must_use]
    pub fn end_reason(self) -> Option<EndReason> {
        match self {
            Self::Closing(r) | Self::Closed(r) => Some(r),
            Self::Queued | Self::Creating | Self::Active => None,
        }
    }

    /// Its word in the workspaces dialect; `None` while it is not listed yet.
    #[must_use]
    pub fn workspaces_status(self) -> Option<&'static str> {
        match self {
            Self::Queued | Self::Creating => None,
            Self::Active | Self::Closing(_) => Some("active"),
            Self::Closed(EndReason::UserDisconnected) => Some("disconnected"),
            Self::Closed(
                EndReason::WorkspaceStopped
                | EndReason::AdminStopped
                | EndReason::SignedOut
                | EndReason::SignedOutByAdmin
                | EndReason::UserDisabled
                | EndReason::WorkspaceRemoved
                | EndReason::Expired
                | EndReason::HostLost
                | EndReason::LaunchFailed,
            ) => Some("terminated"),
        }
    }
}

/// What can happen to a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A place is there.
    Admit,
    /// The tunnel has handshaken and the workspace answers.
    Ready,
    /// It must end, for this reason.
    Close(EndReason),
    /// Its desktop and keys are gone.
    Release,
}

/// The event does not fit the state; nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a session that is {state:?} cannot take {event:?}")]
pub struct IllegalTransition {
    /// Where it is.
    pub state: State,
    /// What was tried.
    pub event: Event,
}

/// The one transition function: total, and the only way from one state to another.
///
/// # Errors
/// [`IllegalTransition`] when the event does not fit the state.
pub fn apply(state: State, event: Event) -> Result<State, IllegalTransition> {
    let illegal = Err(IllegalTransition { state, event });
    match (state, event) {
        (State::Queued, Event::Admit) => Ok(State::Creating),
        (State::Creating, Event::Ready) => Ok(State::Active),
        (State::Queued | State::Creating | State::Active, Event::Close(reason)) => {
            Ok(State::Closing(reason))
        }
        (State::Closing(reason), Event::Release) => Ok(State::Closed(reason)),
        (State::Queued, Event::Ready | Event::Release)
        | (State::Creating, Event::Admit | Event::Release)
        | (State::Active, Event::Admit | Event::Ready | Event::Release)
        | (State::Closing(_), Event::Admit | Event::Ready | Event::Close(_))
        | (State::Closed(_), Event::Admit | Event::Ready | Event::Close(_) | Event::Release) => {
            illegal
        }
    }
}

/// A session. Who, what and where are copied at launch, so that history stays true when users and
/// workspaces change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Id.
    pub id: SessionId,
    /// Organization.
    pub organization_id: OrganizationId,
    /// User.
    pub user_id: UserId,
    /// The user's address at launch.
    pub user_email: String,
    /// The login it was launched from.
    pub login_id: LoginId,
    /// Workspace.
    pub workspace_id: WorkspaceId,
    /// The workspace's name at launch.
    pub workspace_name: String,
    /// The workspace's kind.
    pub workspace_kind: WorkspaceKind,
    /// The host it runs on; nil for a direct target, which is on none of ours.
    pub host_id: HostId,
    /// Which way its stream goes.
    pub route: SessionRoute,
    /// State.
    pub state: State,
    /// Its address inside its tunnel, unique among the live sessions that have one of their own;
    /// else the address of its host, or of its direct target when it was launched.
    pub address: IpAddr,
    /// The second factor verified for it, if one was.
    pub mfa: Option<Mfa>,
    /// The host's public key in this session's tunnel (standard base64); there once the host
    /// answered.
    pub peer_public_key: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it became active.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// When it will be ended at the latest.
    pub expires_at: Timestamp,
    /// Counts changes: what a compare-and-set compares.
    pub version: i64,
}

impl Session {
    /// The session after `event` at `now`: state, its times and its version.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the event does not fit.
    pub fn apply(&self, event: Event, now: Timestamp) -> Result<Self, IllegalTransition> {
        let state = apply(self.state, event)?;
        let mut next = Self { state, version: self.version + 1, ..self.clone() };
        match state {
            State::Queued | State::Creating | State::Closing(_) => {}
            State::Active => next.started_at = Some(now),
            State::Closed(_) => {
                next.ended_at = Some(now.max(self.started_at.unwrap_or(self.created_at)))
            }
        }
        Ok(next)
    }

    /// Whether its time is over.
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
