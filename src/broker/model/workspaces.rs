//! Workspaces and their upstreams.

use crate::domain::route::TargetSpec;
use crate::domain::secret::SecretString;
use crate::domain::session_times::SessionLimits;
use crate::domain::upstream::{Clipboard, CredentialSource, StreamPolicy, TrustRule};
use crate::domain::user::Role;
use crate::domain::web_app::{self, Scheme, WebAppConfig};
use crate::domain::workspace::{UpstreamState, WorkspaceKind, WorkspaceStatus};
use crate::domain::{SessionId, Timestamp, WorkspaceId};
use std::time::Duration;

/// A workspace as its caller sees it.
#[derive(Clone, Debug)]
pub struct WorkspaceView {
    pub workspace: WorkspaceSummary,
    pub status: WorkspaceStatus,
    /// The caller's active session in it.
    pub active_session_id: Option<SessionId>,
    /// `None` if the gateway authenticates to no upstream.
    pub upstream: Option<UpstreamView>,
}

impl WorkspaceView {
    /// The target, for those who manage the workspace.
    #[must_use]
    pub fn target(&self) -> Option<&TargetSpec> {
        self.upstream.as_ref()?.managed.as_ref()?.target.as_ref()
    }
}

/// What everybody who sees a workspace knows of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkspaceSummary {
    pub id: WorkspaceId,
    pub name: String,
    pub description: String,
    pub kind: WorkspaceKind,
    pub icon: String,
    pub tags: Vec<String>,
    pub requires_mfa: bool,
    pub single_seat: bool,
    /// The started desktop may use the host's network.
    pub network: bool,
    pub allowed_roles: Vec<Role>,
    pub maintenance: bool,
    pub session_limits: SessionLimits,
    pub policy: StreamPolicy,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A workspace's upstream as the caller sees it.
#[derive(Clone, Debug)]
pub struct UpstreamView {
    pub source: CredentialSource,
    /// Whether a credential is stored: the caller's own, the workspace's or the started desktop's.
    /// Never when users are asked for it.
    pub credential_saved: bool,
    /// RFB: disconnects other clients.
    pub exclusive: bool,
    /// RDP: keyboard layout sent to the upstream.
    pub keyboard: Option<u32>,
    /// HTML5: how the gateway signs in to the application.
    pub sign_in: Option<web_app::UpstreamSignIn>,
    pub managed: Option<ManagedUpstream>,
}

/// The part of an upstream that only those who manage the workspace see.
#[derive(Clone, Debug)]
pub struct ManagedUpstream {
    /// `None`: a host's agent starts a desktop.
    pub target: Option<TargetSpec>,
    /// Account name of the workspace's credential; may be empty.
    pub username: String,
    /// Windows domain; may be empty.
    pub domain: String,
    pub trust: TrustRule,
    /// HTML5 only.
    pub web: Option<WebAppConfig>,
    /// Pinned and offered certificates.
    pub state: UpstreamState,
}

/// A workspace to create. Missing values get the contract's defaults.
#[derive(Clone, Debug)]
pub struct NewWorkspace {
    /// Slug; made from the name when missing.
    pub id: Option<WorkspaceId>,
    /// 1 to 80 characters.
    pub name: String,
    /// Up to 500 characters.
    pub description: String,
    pub kind: WorkspaceKind,
    pub properties: WorkspaceChange,
}

/// A change of a workspace: `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub icon: Option<String>,
    pub tags: Option<Vec<String>>,
    pub requires_mfa: Option<bool>,
    pub single_seat: Option<bool>,
    pub network: Option<bool>,
    pub allowed_roles: Option<Vec<Role>>,
    pub maintenance: Option<bool>,
    /// All kinds but `linux`.
    pub target: Option<TargetSpec>,
    /// Password for the target; an empty one deletes it. Stored sealed, never shown again.
    pub password: Option<SecretString>,
    pub policy: PolicyChange,
    pub session_limits: SessionLimitsChange,
    /// All kinds but `linux`.
    pub upstream: UpstreamChange,
    /// `html5` only.
    pub web: WebChange,
}

/// A change of the stream policy: `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct PolicyChange {
    pub clipboard: Option<Clipboard>,
    pub files: Option<bool>,
    pub read_only: Option<bool>,
}

/// A change of the times of sessions: `None` leaves a field as it is, `Some(None)` leaves it to the
/// installation.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionLimitsChange {
    pub duration: Option<Option<Duration>>,
    pub extension: Option<Option<Duration>>,
    pub idle_timeout: Option<Option<Duration>>,
}

/// A change of the upstream: `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct UpstreamChange {
    pub source: Option<CredentialSource>,
    pub username: Option<String>,
    pub domain: Option<String>,
    pub trust: Option<TrustRule>,
    pub exclusive: Option<bool>,
    /// A Windows input locale identifier; `Some(None)`: as the browser reports.
    pub keyboard: Option<Option<u32>>,
}

/// A change of a web application: `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct WebChange {
    pub scheme: Option<Scheme>,
    /// `name` or `name:port`; empty: the host of the session's own origin.
    pub host: Option<String>,
    pub start: Option<String>,
    pub identity_headers: Option<bool>,
    /// `Some(None)`: sends no assertion.
    pub assertion_audience: Option<Option<String>>,
    pub sign_in: Option<web_app::UpstreamSignIn>,
    pub methods: Option<Vec<String>>,
    pub paths: Option<Vec<String>>,
    pub upload: Option<bool>,
    pub download: Option<bool>,
    /// Bytes; 0: unlimited.
    pub max_request: Option<u64>,
}
