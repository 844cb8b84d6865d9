//! The use cases: sign in, launch, disconnect, stop, expire, administer. Each is one decision, one transaction.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`fleet`] | the port to the hosts: start, stop and cut desktops and their tunnels (implemented in `app`) |
//! | [`views`] | what use cases return |
//! | [`live`] | who watches a session, and how its streams are cut |

pub mod fleet;
pub mod live;
pub mod views;

use crate::auth::Vault;
use crate::domain::audit::Entry;
use crate::domain::secret::SecretString;
use crate::domain::user::{Caller, Origin, Role};
use crate::domain::{Clock, HostId, Result, SessionId, Timestamp, UserId, WorkspaceId};
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use views::*;

/// What the broker decides by; from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether every user must have a second factor (default true).
    pub mfa_required: bool,
    /// Issuer shown in authenticator apps.
    pub issuer: String,
    /// Life of an access token (default 10 min).
    pub access_ttl: Duration,
    /// Life of a login without use (default 7 days).
    pub refresh_ttl: Duration,
    /// Life of the token between the two factors (default 5 min).
    pub mfa_ttl: Duration,
    /// Life of a stream ticket (default 30 s).
    pub ticket_ttl: Duration,
    /// Longest life of a session (default 12 h).
    pub session_ttl: Duration,
    /// How long a host keeps a desktop without its gateway (default 10 min).
    pub grace: Duration,
    /// How long a launch may take (default 15 s).
    pub launch_timeout: Duration,
    /// Addresses for session tunnels, as network and prefix length (default 10.64.0.0/10).
    pub session_network: (std::net::Ipv4Addr, u8),
    /// Most streams a session may have at once (default 4).
    pub max_viewers: usize,
}

/// The use cases.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[allow(dead_code)]
struct Inner {
    store: Store,
    vault: Vault,
    fleet: Arc<dyn fleet::Fleet>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    live: live::Live,
}

#[allow(unused_variables, missing_docs)]
impl Broker {
    // --- construction and background work (app) ---
    pub fn new(store: Store, vault: Vault, fleet: Arc<dyn fleet::Fleet>, clock: Arc<dyn Clock>, settings: Settings) -> Self { todo!() }
    /// Restores the tunnels of stored hosts and live sessions, audits `gateway_start`. Called once, before serving.
    pub async fn start(&self, origin: &Origin) -> Result<()> { todo!() }
    /// Runs the reaper (expiry, lost hosts, interrupted launches, desktops nobody leases, finished closings, old tickets) and the
    /// sentinel (notices within 250 ms what another process, such as the command line, changed) until `stop` resolves.
    pub async fn maintain(&self, stop: tokio::sync::watch::Receiver<bool>) { todo!() }
    /// Audits `gateway_stop`. Desktops stay.
    pub async fn stop(&self, origin: &Origin) -> Result<()> { todo!() }
    pub fn now(&self) -> Timestamp { todo!() }

    // --- sign-in ---
    pub async fn login(&self, origin: &Origin, email: &str, password: &SecretString) -> Result<SignIn> { todo!() }
    pub async fn mfa_verify(&self, origin: &Origin, mfa_token: &SecretString, method: &str, code: &str) -> Result<Tokens> { todo!() }
    pub async fn totp_enroll(&self, origin: &Origin, who: EnrollAs<'_>) -> Result<TotpEnrollment> { todo!() }
    pub async fn totp_confirm(&self, origin: &Origin, who: EnrollAs<'_>, code: &str) -> Result<Option<Tokens>> { todo!() }
    pub async fn refresh(&self, origin: &Origin, refresh_token: &SecretString) -> Result<Tokens> { todo!() }
    pub async fn logout(&self, origin: &Origin, caller: &Caller, everywhere: bool) -> Result<()> { todo!() }
    /// Who this access token is: signature, expiry, login alive, user enabled. A refused token is audited (`token_refused`).
    pub async fn authenticate(&self, origin: &Origin, access_token: &str) -> Result<Caller> { todo!() }
    /// The public keys that verify access tokens, as a JWK set (RFC 7517).
    pub fn jwks(&self) -> serde_json::Value { todo!() }
    /// Writes a denial that the edge found itself (bad Origin, missing CSRF header, forged ticket shape).
    pub async fn audit_denial(&self, origin: &Origin, caller: Option<&Caller>, route: &str, reason: &str) -> Result<()> { todo!() }

    // --- workspaces ---
    pub async fn workspaces(&self, caller: &Caller) -> Result<Vec<WorkspaceView>> { todo!() }
    pub async fn workspace(&self, caller: &Caller, id: &WorkspaceId) -> Result<WorkspaceView> { todo!() }
    pub async fn launch(&self, origin: &Origin, caller: &Caller, id: &WorkspaceId) -> Result<Launched> { todo!() }
    /// Returns the sessions that ended.
    pub async fn stop_workspace(&self, origin: &Origin, caller: &Caller, id: &WorkspaceId) -> Result<Vec<SessionId>> { todo!() }
    pub async fn create_workspace(&self, origin: &Origin, caller: &Caller, new: NewWorkspace) -> Result<WorkspaceView> { todo!() }
    pub async fn update_workspace(&self, origin: &Origin, caller: &Caller, id: &WorkspaceId, change: WorkspaceChange) -> Result<WorkspaceView> { todo!() }
    pub async fn delete_workspace(&self, origin: &Origin, caller: &Caller, id: &WorkspaceId) -> Result<()> { todo!() }

    // --- sessions ---
    pub async fn sessions(&self, caller: &Caller, query: SessionQuery) -> Result<Page<SessionView>> { todo!() }
    pub async fn session(&self, caller: &Caller, id: SessionId) -> Result<SessionView> { todo!() }
    pub async fn disconnect(&self, origin: &Origin, caller: &Caller, id: SessionId) -> Result<()> { todo!() }
    pub async fn issue_ticket(&self, origin: &Origin, caller: &Caller, id: SessionId) -> Result<Ticket> { todo!() }
    /// Redeems the proof, checks the owner, counts viewers, audits `open_stream`; every refusal is audited.
    pub async fn open_stream(&self, origin: &Origin, id: SessionId, proof: StreamProof<'_>) -> Result<live::StreamGrant> { todo!() }
    /// Audits `close_stream` with byte counts and duration; the grant's place among the viewers is free again.
    pub async fn close_stream(&self, origin: &Origin, grant: live::StreamGrant, why: &str) -> Result<()> { todo!() }
    pub async fn all_live_sessions(&self, origin: &Origin, caller: &Caller) -> Result<Vec<SessionView>> { todo!() }
    pub async fn terminate(&self, origin: &Origin, caller: &Caller, id: SessionId) -> Result<()> { todo!() }

    // --- users ---
    pub async fn users(&self, origin: &Origin, caller: &Caller) -> Result<Vec<crate::domain::user::User>> { todo!() }
    pub async fn create_user(&self, origin: &Origin, caller: &Caller, new: NewUser) -> Result<crate::domain::user::User> { todo!() }
    pub async fn update_user(&self, origin: &Origin, caller: &Caller, id: UserId, change: UserChange) -> Result<crate::domain::user::User> { todo!() }
    pub async fn reset_mfa(&self, origin: &Origin, caller: &Caller, id: UserId) -> Result<()> { todo!() }
    pub async fn sign_out_user(&self, origin: &Origin, caller: &Caller, id: UserId) -> Result<()> { todo!() }

    // --- hosts ---
    pub async fn hosts(&self, origin: &Origin, caller: &Caller) -> Result<Vec<HostView>> { todo!() }
    pub async fn create_join_token(&self, origin: &Origin, caller: &Caller, name: Option<String>, ttl: Duration) -> Result<JoinToken> { todo!() }
    pub async fn enroll_host(&self, origin: &Origin, request: HostEnrollment) -> Result<HostEnrolled> { todo!() }
    pub async fn remove_host(&self, origin: &Origin, caller: &Caller, id: HostId) -> Result<()> { todo!() }

    // --- audit ---
    pub async fn audit(&self, origin: &Origin, caller: &Caller, query: AuditQuery) -> Result<Page<Entry>> { todo!() }
    /// Audits the export and returns the permitted reader; `next` gives entries oldest first, in pages.
    pub async fn audit_export(&self, origin: &Origin, caller: &Caller) -> Result<AuditExport> { todo!() }
    pub async fn audit_verify(&self, origin: &Origin, caller: &Caller) -> Result<AuditVerdict> { todo!() }

    // --- live and health ---
    /// "Something of this kind changed in this organization": what the event stream tells.
    pub fn changes(&self, caller: &Caller) -> broadcast::Receiver<live::Change> { todo!() }
    pub async fn health(&self) -> HealthView { todo!() }
    pub fn gauges(&self) -> Gauges { todo!() }
}

/// Administration from the shell, on the same use cases: actor `system`.
#[allow(unused_variables, missing_docs)]
impl Broker {
    /// Creates the first organization when there is none.
    pub async fn ensure_organization(&self, name: &str) -> Result<crate::domain::OrganizationId> { todo!() }
    /// A caller for the command line: role admin, audited as `system`.
    pub async fn shell_caller(&self) -> Result<Caller> { todo!() }
    /// Sets a user's TOTP secret (demo and recovery); the secret is base32.
    pub async fn set_totp(&self, origin: &Origin, caller: &Caller, user: UserId, secret: &SecretString) -> Result<()> { todo!() }
    pub async fn find_user(&self, caller: &Caller, email: &str) -> Result<Option<crate::domain::user::User>> { todo!() }
    pub async fn roles(&self) -> [Role; 3] { Role::ALL }
}
