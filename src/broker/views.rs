//! What use cases take and return: domain values, joined and ready for a dialect to map. No secret
//! but those given once.

use super::fleet::{HostCapabilities, TunnelReport, TunnelState};
use crate::domain::audit::{ChainFault, Head};
use crate::domain::host::Host;
use crate::domain::route::{HopLatencies, LatencyHistogram, TargetSpec};
use crate::domain::secret::SecretString;
use crate::domain::session::Session;
use crate::domain::upstream::{Clipboard, CredentialSource, StreamPolicy, TrustRule};
use crate::domain::user::{Caller, Mfa, Role};
use crate::domain::web_app::{self, Scheme, WebAppConfig};
use crate::domain::workspace::{UpstreamState, Workspace, WorkspaceKind, WorkspaceStatus};
use crate::domain::{LoginId, OrganizationId, SessionId, Timestamp, WorkspaceId};
use crate::store::AuditFilter;
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Outcome of the first factor.
#[derive(Debug)]
pub enum SignIn {
    /// Signed in.
    Done(Tokens),
    /// A second factor is due (`enrollment_required` false), or must be enrolled first (true).
    MfaRequired {
        /// Opaque; names the challenge.
        token: SecretString,
        /// There is no factor yet, and policy asks for one.
        enrollment_required: bool,
        /// Life of the token.
        expires_in: Duration,
    },
}

/// What a signed-in client holds.
#[derive(Debug)]
pub struct Tokens {
    /// JWT.
    pub access_token: SecretString,
    /// Life of the access token.
    pub expires_in: Duration,
    /// One use.
    pub refresh_token: SecretString,
    /// Life of the refresh token.
    pub refresh_expires_in: Duration,
    /// Who.
    pub caller: Caller,
}

/// Who enrols a factor.
#[derive(Debug)]
pub enum EnrollAs<'a> {
    /// Somebody between first factor and enrolment.
    MfaToken(&'a SecretString),
    /// Somebody signed in.
    Caller(&'a Caller),
}

/// A TOTP secret, shown once, until confirmed by a code.
#[derive(Debug)]
pub struct TotpEnrollment {
    /// Base32.
    pub secret: SecretString,
    /// `otpauth://totp/...`
    pub otpauth_url: SecretString,
    /// The same as a QR code (SVG text).
    pub qr_svg: SecretString,
    /// Issuer.
    pub issuer: String,
    /// Account name.
    pub account: String,
}

/// A workspace as its caller sees it.
#[derive(Clone, Debug)]
pub struct WorkspaceView {
    /// As defined.
    pub workspace: Workspace,
    /// Now.
    pub status: WorkspaceStatus,
    /// The caller's live session in it.
    pub active_session_id: Option<SessionId>,
    /// Its server; `None` where the gateway proves itself to none.
    pub upstream: Option<UpstreamView>,
}

/// A workspace's server as its caller sees it.
#[derive(Clone, Debug)]
pub struct UpstreamView {
    /// Where the credential comes from.
    pub source: CredentialSource,
    /// Whether there is one: the caller's own, where users have their own; the workspace's, or the
    /// started desktop's; never when it is asked for.
    pub credential_saved: bool,
    /// RFB: other clients are put out.
    pub exclusive: bool,
    /// RDP: the keyboard layout told to the server.
    pub keyboard: Option<u32>,
    /// HTML5: how the gateway signs in to the application, which says what a credential for it is
    /// made of.
    pub sign_in: Option<web_app::UpstreamSignIn>,
    /// The rest, for those who manage it.
    pub managed: Option<ManagedUpstream>,
}

/// What only those who manage a workspace see of its server.
#[derive(Clone, Debug)]
pub struct ManagedUpstream {
    /// Account name of the workspace's credential; empty: none.
    pub username: String,
    /// Its Windows domain; empty: none.
    pub domain: String,
    /// How the server's certificate is checked.
    pub trust: TrustRule,
    /// HTML5: how the application is met.
    pub web: Option<WebAppConfig>,
    /// The certificates it showed.
    pub state: UpstreamState,
}

/// A session as its owner or an admin sees it.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// As stored.
    pub session: Session,
    /// Its tunnel; a closed session's is down.
    pub tunnel: TunnelReport,
    /// Round trip browser to gateway, when a stream is open.
    pub browser_rtt: Option<Duration>,
    /// Open streams.
    pub viewers: usize,
    /// What its workspace lets its streams carry now; `None` when the workspace is gone.
    pub policy: Option<StreamPolicy>,
}

impl SessionView {
    /// The tunnel's state.
    #[must_use]
    pub fn tunnel_state(&self) -> TunnelState {
        self.tunnel.state
    }

    /// What each leg of the way took.
    #[must_use]
    pub fn segments(&self) -> HopLatencies {
        HopLatencies {
            browser: self.browser_rtt,
            host: self.tunnel.rtt,
            desktop: self.tunnel.desktop_rtt,
        }
    }
}

/// A launch that succeeded.
#[derive(Clone, Debug)]
pub struct Launched {
    /// The session.
    pub session: SessionView,
    /// The workspace.
    pub workspace: WorkspaceView,
    /// Longest life of the session.
    pub max_duration: Duration,
}

/// A page of a listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Where the next page starts; opaque to clients.
    pub next_cursor: Option<String>,
}

/// Which sessions.
#[derive(Clone, Debug, Default)]
pub struct SessionQuery {
    /// 1 to 500; default 100.
    pub limit: Option<u32>,
    /// From a former page.
    pub cursor: Option<String>,
    /// `active`, `disconnected` or `terminated`.
    pub status: Option<String>,
}

/// Which audit entries.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// User id or e-mail address.
    pub actor: Option<String>,
    /// Action word.
    pub action: Option<String>,
    /// Workspace.
    pub workspace_id: Option<String>,
    /// Session.
    pub session_id: Option<String>,
    /// `success`, `denied`, `error`.
    pub outcome: Option<String>,
    /// RFC 3339, inclusive.
    pub from: Option<String>,
    /// RFC 3339, exclusive.
    pub to: Option<String>,
    /// Words anywhere in actor, target, reason or source address.
    pub q: Option<String>,
    /// 1 to 500; default 50.
    pub limit: Option<u32>,
    /// From a former page.
    pub cursor: Option<String>,
}

/// A stream ticket: shown once.
#[derive(Debug)]
pub struct Ticket {
    /// The text.
    pub ticket: SecretString,
    /// Until when.
    pub expires_at: Timestamp,
}

/// What somebody opens a stream with.
#[derive(Debug)]
pub enum StreamProof<'a> {
    /// A one-use ticket.
    Ticket(&'a SecretString),
    /// A signed-in caller (cookie or bearer token).
    Caller(&'a Caller),
}

/// Why a stream was refused, as the cause of a `Conflict`: the session has all the viewers it may
/// have. An edge that can say so more kindly looks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the session has all the viewers it may have")]
pub struct TooManyViewers;

/// A workspace to create. Missing values take the contract's defaults.
#[derive(Clone, Debug)]
pub struct NewWorkspace {
    /// Slug; made from the name when missing.
    pub id: Option<WorkspaceId>,
    /// 1 to 80 characters.
    pub name: String,
    /// Up to 500 characters.
    pub description: String,
    /// Kind.
    pub kind: WorkspaceKind,
    /// Everything that can be changed later.
    pub properties: WorkspaceChange,
}

/// A change of a workspace: only what is there changes.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
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
    /// Where its own server is (all but `linux`).
    pub target: Option<TargetSpec>,
    /// What the gateway proves to that server; an empty one forgets it. Kept sealed, never shown
    /// again.
    pub password: Option<SecretString>,
    /// What its streams may carry.
    pub policy: PolicyChange,
    /// How the gateway meets its server (all but `linux`).
    pub upstream: UpstreamChange,
    /// How its web application is met (`html5`).
    pub web: WebChange,
}

/// A change of what streams may carry: only what is there changes.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct PolicyChange {
    pub clipboard: Option<Clipboard>,
    pub files: Option<bool>,
    pub read_only: Option<bool>,
}

/// A change of how the gateway meets a server: only what is there changes.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct UpstreamChange {
    pub source: Option<CredentialSource>,
    pub username: Option<String>,
    pub domain: Option<String>,
    pub trust: Option<TrustRule>,
    pub exclusive: Option<bool>,
    /// A Windows input locale identifier; `Some(None)`: the browser's own word again.
    pub keyboard: Option<Option<u32>>,
}

/// A change of how a web application is met: only what is there changes.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct WebChange {
    pub scheme: Option<Scheme>,
    /// `name` or `name:port`; empty: the session's own origin's.
    pub host: Option<String>,
    pub start: Option<String>,
    pub identity_headers: Option<bool>,
    /// `Some(None)`: no assertion is sent any more.
    pub assertion_audience: Option<Option<String>>,
    pub sign_in: Option<web_app::UpstreamSignIn>,
    pub methods: Option<Vec<String>>,
    pub paths: Option<Vec<String>>,
    pub upload: Option<bool>,
    pub download: Option<bool>,
    /// Bytes; 0: any.
    pub max_request: Option<u64>,
}

/// A user to create.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct NewUser {
    pub email: String,
    pub name: String,
    pub password: SecretString,
    pub role: Role,
}

/// A change of a user: only what is there changes.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct UserChange {
    pub name: Option<String>,
    pub role: Option<Role>,
    pub disabled: Option<bool>,
    pub password: Option<SecretString>,
}

/// A host as admins see it.
#[derive(Clone, Debug)]
pub struct HostView {
    /// As stored.
    pub host: Host,
    /// Its tunnel now.
    pub tunnel: Option<TunnelReport>,
    /// What its agent offers, as it said last; `None`: it has not said yet, or there is none.
    pub capabilities: Option<Arc<HostCapabilities>>,
    /// Live sessions on it.
    pub sessions: usize,
}

/// A one-time join token: shown once.
#[derive(Debug)]
pub struct JoinToken {
    /// The text.
    pub token: SecretString,
    /// Until when.
    pub expires_at: Timestamp,
}

/// An agent that asks to join.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct HostEnrollment {
    pub token: SecretString,
    pub name: String,
    /// WireGuard public key, standard base64.
    pub public_key: String,
    pub version: String,
}

/// A standard WireGuard peer to add as a host.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NewPeer {
    pub name: String,
    /// WireGuard public key, standard base64.
    pub public_key: String,
    /// Where it can be called; `None`: it calls the gateway.
    pub endpoint: Option<SocketAddr>,
    /// Its address inside the tunnel; the next free one when missing.
    pub address: Option<IpAddr>,
}

/// What an agent needs to dial home.
#[derive(Debug)]
pub struct HostEnrolled {
    /// The host.
    pub host: Host,
    /// Who the gateway is.
    pub gateway: super::fleet::GatewayIdentity,
    /// Preshared key of the host tunnel, standard base64; shown once.
    pub preshared_key: SecretString,
}

/// A sign-in of the caller's.
#[derive(Clone, Debug)]
pub struct LoginView {
    /// Id.
    pub id: LoginId,
    /// The one that asks.
    pub is_current: bool,
    /// The second factor verified in it.
    pub mfa: Option<Mfa>,
    /// Since when.
    pub created_at: Timestamp,
    /// When it ended or will, unless renewed.
    pub ends_at: Timestamp,
    /// Whether it counts now.
    pub is_active: bool,
    /// From where.
    pub source_ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
}

/// Verdict over the chain.
#[derive(Clone, Debug)]
pub struct VerificationReport {
    /// Entries read.
    pub entries: i64,
    /// The head it was compared with.
    pub head: Head,
    /// The first fault; `None`: whole and unaltered.
    pub fault: Option<ChainFault>,
}

/// A permitted reader of the log, oldest first; of what a filter shows, newest first, as the
/// listing gives it.
pub struct AuditExport {
    pub(super) broker: super::Broker,
    pub(super) after: i64,
    pub(super) chosen: Option<(OrganizationId, AuditFilter)>,
    /// The head when the export began: it ends there.
    pub head: Head,
}

/// What was probed just now.
#[derive(Clone, Debug)]
pub struct HealthView {
    /// The store answered, in this time; else the error's kind as a word.
    pub database: Result<Duration, String>,
    /// Entries in the audit log, when its head could be read and its signature holds.
    pub audit: Result<i64, String>,
    /// Hosts with an encrypted tunnel.
    pub hosts_connected: usize,
    /// Hosts enrolled.
    pub hosts_total: usize,
}

/// Numbers for the metrics page, without asking the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Live sessions known to this process.
    pub sessions: usize,
    /// Open streams.
    pub streams: usize,
    /// Hosts with an encrypted tunnel.
    pub hosts_connected: usize,
    /// Round trips browser to gateway, of open streams.
    pub browser_rtt: LatencyHistogram,
}
