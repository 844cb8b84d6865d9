//! Sessions.

use super::millis;
use super::tunnel::{TunnelStatus, protocol};
use super::upstream::StreamPolicy;
use super::workspace::WorkspaceType;
use crate::broker::model::{SessionView, Ticket as TicketView};
use crate::domain::route::Hop;
use crate::domain::session::{EndReason, SessionFilter, State};
use crate::domain::upstream::StreamProtocol;
use crate::domain::{Error, Result, SessionId, Timestamp};
use crate::http::apps::AppsSettings;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Status of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// Being launched; not listed.
    Creating,
    /// Can be used.
    Active,
    /// Its user ended it.
    Disconnected,
    /// Ended by an admin or a rule, with its workspace, expired, idle, or its launch failed.
    Terminated,
}

impl From<State> for SessionStatus {
    /// A closing session has the status of an ended one: nobody may use it any more.
    fn from(state: State) -> Self {
        match state {
            State::Queued | State::Creating => Self::Creating,
            State::Active => Self::Active,
            State::Closing(reason) | State::Closed(reason) if DISCONNECTED.contains(&reason) => {
                Self::Disconnected
            }
            State::Closing(_) | State::Closed(_) => Self::Terminated,
        }
    }
}

/// End reasons of sessions with the status `disconnected`.
const DISCONNECTED: &[EndReason] = &[EndReason::UserDisconnected];
/// End reasons of sessions with the status `terminated`.
const TERMINATED: &[EndReason] = &[
    EndReason::WorkspaceStopped,
    EndReason::AdminStopped,
    EndReason::SignedOut,
    EndReason::SignedOutByAdmin,
    EndReason::UserDisabled,
    EndReason::WorkspaceRemoved,
    EndReason::Expired,
    EndReason::IdleTimeout,
    EndReason::HostLost,
    EndReason::HostRestarted,
    EndReason::LaunchFailed,
];

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionEndReason {
    UserDisconnected,
    WorkspaceStopped,
    AdminStopped,
    SignedOut,
    SignedOutByAdmin,
    UserDisabled,
    WorkspaceRemoved,
    Expired,
    IdleTimeout,
    HostLost,
    HostRestarted,
    LaunchFailed,
}

impl From<EndReason> for SessionEndReason {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::UserDisconnected => Self::UserDisconnected,
            EndReason::WorkspaceStopped => Self::WorkspaceStopped,
            EndReason::AdminStopped => Self::AdminStopped,
            EndReason::SignedOut => Self::SignedOut,
            EndReason::SignedOutByAdmin => Self::SignedOutByAdmin,
            EndReason::UserDisabled => Self::UserDisabled,
            EndReason::WorkspaceRemoved => Self::WorkspaceRemoved,
            EndReason::Expired => Self::Expired,
            EndReason::IdleTimeout => Self::IdleTimeout,
            EndReason::HostLost => Self::HostLost,
            EndReason::HostRestarted => Self::HostRestarted,
            EndReason::LaunchFailed => Self::LaunchFailed,
        }
    }
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// Id.
    pub id: Uuid,
    /// User; null when an API key launched it.
    #[schema(required = true)]
    pub user_id: Option<Uuid>,
    /// The user's e-mail address at launch, or the name of the API key.
    pub user_email: String,
    /// Workspace.
    pub workspace_id: String,
    /// Its name at launch.
    pub workspace_name: String,
    /// Its kind.
    pub workspace_type: WorkspaceType,
    /// Status.
    pub status: SessionStatus,
    /// When it became active.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub ended_at: Option<Timestamp>,
    /// Why it ended; null until then.
    #[schema(required = true)]
    pub end_reason: Option<SessionEndReason>,
    /// When it ends unless it is extended.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Until when its user can extend it; null when they cannot.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub extendable_until: Option<Timestamp>,
    /// It ends after this time without input; null: never.
    #[schema(required = true)]
    pub idle_timeout_seconds: Option<u64>,
    /// When it ends unless there is input; null: never.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub idle_ends_at: Option<Timestamp>,
    /// Its address inside its tunnel; the host's address there when it uses the host's tunnel; the
    /// target's without a tunnel.
    pub ip_address: String,
    /// Its tunnel's state.
    pub tunnel_status: TunnelStatus,
    /// Whether a second factor was verified for it.
    pub mfa_verified: bool,
    /// Its tunnel.
    pub tunnel: SessionTunnel,
    /// Round-trip times.
    pub latency: Latency,
    /// Number of open streams.
    pub viewers: usize,
    /// Current stream policy of its workspace; null when the workspace was removed.
    #[schema(required = true)]
    pub policy: Option<StreamPolicy>,
    /// Origin of its web application; null for a desktop, and when the gateway serves no web
    /// applications.
    #[schema(required = true)]
    pub app_origin: Option<String>,
}

/// A session's tunnel.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionTunnel {
    /// `wireguard`; `none` for a direct target.
    pub protocol: &'static str,
    /// The host's public key in it, base64.
    #[schema(required = true)]
    pub peer_public_key: Option<String>,
    /// The desktop's address in it.
    pub address: String,
    /// Last completed handshake.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_handshake_at: Option<Timestamp>,
    /// Bytes from the host: encrypted bytes of its own tunnel, else payload of its streams.
    pub rx_bytes: u64,
    /// Bytes to the host, counted alike.
    pub tx_bytes: u64,
    /// TCP segments that the gateway retransmitted in the tunnel.
    pub retransmits: u64,
}

/// A leg of the path from browser to desktop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlowLeg {
    /// Browser to gateway.
    BrowserGateway,
    /// Gateway to host.
    GatewayHost,
    /// Host to desktop.
    HostDesktop,
}

impl From<Hop> for SlowLeg {
    fn from(leg: Hop) -> Self {
        match leg {
            Hop::BrowserGateway => Self::BrowserGateway,
            Hop::GatewayHost => Self::GatewayHost,
            Hop::HostDesktop => Self::HostDesktop,
        }
    }
}

/// Round-trip times in milliseconds; null when unknown.
#[derive(Debug, Serialize, ToSchema)]
pub struct Latency {
    /// Browser to gateway.
    #[schema(required = true)]
    pub browser_ms: Option<f64>,
    /// Gateway to host and back: opening a connection there, inside the tunnel where there is one.
    #[schema(required = true)]
    pub host_ms: Option<f64>,
    /// Response time of the desktop's server when a stream was last opened, without the round trip to
    /// the host.
    #[schema(required = true)]
    pub desktop_ms: Option<f64>,
    /// The slow leg; null when none is.
    #[schema(required = true)]
    pub slow_leg: Option<SlowLeg>,
}

impl Session {
    /// From the broker's; `apps` says where web applications are shown.
    #[must_use]
    pub fn new(view: SessionView, apps: Option<&AppsSettings>) -> Self {
        let legs = view.segments();
        let s = view.session;
        let apps = apps.filter(|_| s.workspace_kind.protocol() == StreamProtocol::Http);
        let address = s.address.to_string();
        Self {
            id: s.id.0,
            user_id: s.user_id().map(|id| id.0),
            user_email: s.principal_name,
            workspace_id: s.workspace_id.to_string(),
            workspace_name: s.workspace_name,
            workspace_type: s.workspace_kind.into(),
            status: s.state.into(),
            started_at: s.started_at,
            ended_at: s.ended_at,
            end_reason: s.state.end_reason().map(Into::into),
            expires_at: s.expires_at,
            extendable_until: view.extendable_until,
            idle_timeout_seconds: view.idle_end.map(|idle| idle.timeout.as_secs()),
            idle_ends_at: view.idle_end.map(|idle| idle.at),
            ip_address: address.clone(),
            tunnel_status: view.tunnel.state.into(),
            mfa_verified: s.mfa.is_some(),
            tunnel: SessionTunnel {
                protocol: protocol(view.tunnel.state),
                peer_public_key: s.peer_public_key,
                address,
                last_handshake_at: view.tunnel.last_handshake_at,
                rx_bytes: view.tunnel.rx_bytes,
                tx_bytes: view.tunnel.tx_bytes,
                retransmits: view.tunnel.retransmits,
            },
            latency: Latency {
                browser_ms: millis(legs.browser),
                host_ms: millis(legs.host),
                desktop_ms: millis(legs.desktop),
                slow_leg: legs.bottleneck().map(SlowLeg::from),
            },
            viewers: view.viewers,
            policy: view.policy.map(Into::into),
            app_origin: apps.map(|apps| apps.origin(s.id)),
        }
    }
}

/// A stream ticket: one use, this session only.
#[derive(Serialize, ToSchema)]
pub struct Ticket {
    /// For `?ticket=`.
    pub ticket: String,
    /// Expiry.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Path of the stream.
    pub url: String,
    /// `rdp`: the keyboard layout that the workspace has the server told, such as `0x00000407`;
    /// null: the browser's own (`keyboard` of the stream).
    #[schema(required = true)]
    pub keyboard: Option<String>,
}

impl Ticket {
    /// From the broker's.
    #[must_use]
    pub fn new(ticket: &TicketView, session: SessionId) -> Self {
        Self {
            ticket: ticket.ticket.expose().clone(),
            expires_at: ticket.expires_at,
            url: format!("/api/sessions/{session}/stream"),
            keyboard: ticket.keyboard_layout.map(|id| format!("0x{id:08x}")),
        }
    }
}

/// Filter and page of a listing.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SessionParams {
    /// 1 to 500; default 100.
    pub limit: Option<u32>,
    /// Cursor in the `Link` header of the previous page.
    pub cursor: Option<String>,
    /// `active`, `disconnected` or `terminated`.
    pub status: Option<String>,
}

impl SessionParams {
    /// # Errors
    /// `Invalid` when the status is not one that is listed.
    pub fn filter(&self) -> Result<SessionFilter> {
        match self.status.as_deref() {
            None => Ok(SessionFilter::Any),
            Some("active") => Ok(SessionFilter::Active),
            Some("disconnected") => Ok(SessionFilter::Ended(DISCONNECTED)),
            Some("terminated") => Ok(SessionFilter::Ended(TERMINATED)),
            Some(_) => Err(Error::invalid("status must be active, disconnected or terminated.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_reason_has_one_status() {
        for reason in EndReason::ALL {
            let counts = [DISCONNECTED, TERMINATED].map(|reasons| reasons.contains(&reason));
            assert_eq!(counts.into_iter().filter(|is_in| *is_in).count(), 1, "{reason}");
            let expected =
                if counts[0] { SessionStatus::Disconnected } else { SessionStatus::Terminated };
            for state in [State::Closing(reason), State::Closed(reason)] {
                assert_eq!(SessionStatus::from(state), expected, "{state:?}");
            }
        }
        assert_eq!(SessionStatus::from(State::Active), SessionStatus::Active);
        for state in [State::Queued, State::Creating] {
            assert_eq!(SessionStatus::from(state), SessionStatus::Creating);
        }
    }

    #[test]
    fn an_unknown_status_is_refused() {
        for status in ["creating", "Active", "", "active\0"] {
            let params = SessionParams { status: Some(status.to_owned()), ..Default::default() };
            assert!(params.filter().is_err(), "{status:?}");
        }
    }
}
