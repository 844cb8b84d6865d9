//! A gateway without its edges: broker, store, vault, a fake fleet and a clock that moves when
//! told.

use crate::support::db::{self, Db};
use crate::support::fake_fleet::FakeFleet;
use portcullis::auth::{Vault, totp};
use portcullis::broker::core::settings::Limits;
use portcullis::broker::core::stream_registry::{StreamAuthorization, StreamGrant};
use portcullis::broker::model::*;
use portcullis::broker::{Broker, Settings};
use portcullis::domain::audit::Entry;
use portcullis::domain::principal::{Principal, SignedInUser};
use portcullis::domain::secret::SecretString;
use portcullis::domain::session::{EndReason, Session};
use portcullis::domain::session_times::SessionTimes;
use portcullis::domain::user::{RequestSource, Role, User};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{
    Clock, Error, ErrorKind, HostId, LoginId, SessionId, Timestamp, WorkspaceId, WorkspaceKey,
};
use portcullis::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

pub const PASSWORD: &str = "correct horse battery";
pub const SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
/// "At once" on a machine that may be busy: nothing here waits for a host, and nothing but what a
/// test does itself would cut later.
pub const REVOKE_TIMEOUT: Duration = Duration::from_secs(30);

pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_772_721_000_000)))
    }

    pub fn advance(&self, d: Duration) {
        self.0.fetch_add(i64::try_from(d.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// As somebody does who corrects a clock that was ahead.
    pub fn rewind(&self, d: Duration) {
        self.0.fetch_sub(i64::try_from(d.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

pub fn settings() -> Settings {
    Settings {
        mfa_required: false,
        issuer: "Portcullis".into(),
        access_ttl: Duration::from_secs(600),
        refresh_ttl: Duration::from_secs(7 * 24 * 3600),
        mfa_ttl: Duration::from_secs(300),
        ticket_ttl: Duration::from_secs(30),
        session_times: SessionTimes::of_installation(
            Duration::from_secs(12 * 3600),
            Duration::from_secs(12 * 3600),
            None,
        ),
        grace: Duration::from_secs(600),
        launch_timeout: Duration::from_secs(15),
        session_network: ("10.64.0.0".parse().unwrap(), 10),
        local_endpoints: false,
        web_applications: true,
        max_viewers: 4,
        limits: Limits::default(),
    }
}

pub fn origin() -> RequestSource {
    RequestSource {
        request_id: "req-1".into(),
        source_ip: Some("192.0.2.7".parse().unwrap()),
        user_agent: Some("test".into()),
    }
}

pub fn secret(text: &str) -> SecretString {
    SecretString::new(text.to_owned())
}

/// A signed-in user as a principal, and the parts of it that tests look at.
#[derive(Clone, Debug)]
pub struct Caller {
    pub principal: Principal,
    pub user: User,
    pub login_id: LoginId,
}

impl From<SignedInUser> for Caller {
    fn from(signed_in: SignedInUser) -> Self {
        Self {
            user: signed_in.user.clone(),
            login_id: signed_in.login_id,
            principal: Principal::User(signed_in),
        }
    }
}

/// The tokens of a sign-in, and its principal.
pub struct Login {
    pub caller: Caller,
    tokens: Tokens,
}

impl From<Tokens> for Login {
    fn from(tokens: Tokens) -> Self {
        Self { caller: tokens.caller.clone().into(), tokens }
    }
}

impl std::ops::Deref for Login {
    type Target = Tokens;
    fn deref(&self) -> &Tokens {
        &self.tokens
    }
}

impl std::ops::Deref for Caller {
    type Target = Principal;
    fn deref(&self) -> &Principal {
        &self.principal
    }
}

pub struct BrokerFixture {
    pub broker: Broker,
    pub fleet: Arc<FakeFleet>,
    pub clock: Arc<ManualClock>,
    pub store: Store,
    pub vault: Vault,
    pub system: Principal,
    pub host: HostId,
    pub url: String,
}

impl BrokerFixture {
    /// One organization, one connected host, no second factor asked for.
    pub async fn new(db: &Db) -> Self {
        Self::with(db, settings()).await
    }

    pub async fn with(db: &Db, settings: Settings) -> Self {
        let (vault, store) = (db::vault(), db.store.clone());
        let (fleet, clock) = (FakeFleet::new(), ManualClock::new());
        let broker =
            Broker::new(store.clone(), vault.clone(), fleet.clone(), clock.clone(), settings);
        broker.organizations().ensure("Acme").await.unwrap();
        let system = broker.organizations().system_principal().await.unwrap();
        let mut fixture = Self {
            broker,
            fleet,
            clock,
            store,
            vault,
            system,
            host: HostId::new(),
            url: db.url.clone(),
        };
        fixture.host = fixture.add_host("host-1", 1).await;
        fixture
    }

    /// Another process on the same database: its fleet knows no host.
    pub fn second_process(&self, settings: Settings) -> (Broker, Arc<FakeFleet>) {
        let store = Store::open_with(&self.url, Arc::new(self.vault.clone())).unwrap();
        let fleet = FakeFleet::new();
        (Broker::new(store, self.vault.clone(), fleet.clone(), self.clock.clone(), settings), fleet)
    }

    pub async fn add_host(&self, name: &str, key: u8) -> HostId {
        use base64::Engine as _;
        let join = self
            .broker
            .hosts()
            .create_join_token(&origin(), &self.system, Some(name.into()), Duration::from_secs(60))
            .await
            .unwrap();
        let public_key = base64::engine::general_purpose::STANDARD.encode([key; 32]);
        let request = HostEnrollment {
            token: join.token,
            name: name.into(),
            public_key,
            version: "0.1.0".into(),
        };
        let host = self.broker.hosts().enroll(&origin(), request).await.unwrap().host.id;
        self.fleet.connect(host);
        host
    }

    pub async fn user(&self, name: &str, role: Role) -> User {
        let new = NewUser {
            email: format!("{name}@example.com"),
            name: name.into(),
            password: secret(PASSWORD),
            role,
        };
        self.broker.users().create(&origin(), &self.system, new).await.unwrap()
    }

    /// A user who is signed in.
    pub async fn caller(&self, name: &str, role: Role) -> Caller {
        self.user(name, role).await;
        self.sign_in(name).await.caller
    }

    pub async fn sign_in(&self, name: &str) -> Login {
        let tokens = match self
            .broker
            .passwords()
            .sign_in(&origin(), None, &format!("{name}@example.com"), &secret(PASSWORD))
            .await
            .unwrap()
        {
            SignIn::Done(tokens) => *tokens,
            SignIn::MfaRequired { token, .. } => self
                .broker
                .totp()
                .verify(&origin(), None, &token, &self.totp_code(0))
                .await
                .unwrap(),
        };
        tokens.into()
    }

    /// The present code of [`SECRET`], or that of `step` steps later.
    pub fn totp_code(&self, steps: i64) -> String {
        totp::code_at(&secret(SECRET), totp::step_of(self.clock.now()) + steps).unwrap()
    }

    pub async fn workspace(&self, id: &str, rest: WorkspaceChange) -> WorkspaceId {
        let id = WorkspaceId::parse(id).unwrap();
        let rest = WorkspaceChange { requires_mfa: rest.requires_mfa.or(Some(false)), ..rest };
        let new = NewWorkspace {
            id: Some(id.clone()),
            name: id.to_string(),
            description: String::new(),
            kind: WorkspaceKind::Linux,
            properties: rest,
        };
        self.broker.workspaces().create(&origin(), &self.system, new).await.unwrap();
        id
    }

    /// A workspace of the organization.
    pub fn key(&self, id: &WorkspaceId) -> WorkspaceKey {
        let organization_id = self.system.organization_id().unwrap();
        WorkspaceKey { organization_id, id: id.clone() }
    }

    pub async fn launch(&self, caller: &Caller, id: &WorkspaceId) -> Session {
        self.broker.launcher().launch(&origin(), caller, id).await.unwrap().session.session
    }

    pub async fn open_stream(&self, caller: &Caller, session: SessionId) -> StreamGrant {
        self.broker
            .streams()
            .open(&origin(), session, StreamProof::Principal(caller))
            .await
            .unwrap()
    }

    pub async fn stored_session(&self, id: SessionId) -> Session {
        self.store.read(move |tx| tx.session(id)).await.unwrap().unwrap()
    }

    /// Waits until the stored session fits.
    pub async fn wait_for_session(
        &self,
        id: SessionId,
        fits: impl Fn(&Session) -> bool,
    ) -> Session {
        let mut changes = self.broker.change_feed().subscribe(&self.system);
        let waited = timeout(Duration::from_secs(60), async {
            loop {
                let session = self.stored_session(id).await;
                if fits(&session) {
                    return session;
                }
                // One that fell behind reads the session all the same.
                if let Err(error) = changes.recv().await {
                    assert!(matches!(error, RecvError::Lagged(_)), "{error}");
                }
            }
        });
        waited.await.expect("the session never became what it should")
    }

    pub async fn live_sessions(&self) -> Vec<Session> {
        self.store.read(|tx| tx.live_sessions()).await.unwrap()
    }

    pub async fn login_alive(&self, id: LoginId) -> bool {
        let now = self.clock.now();
        self.store.read(move |tx| tx.login(id)).await.unwrap().unwrap().is_active(now)
    }

    /// The whole log.
    pub async fn audit_log(&self) -> Vec<Entry> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map_or(0, |e: &Entry| e.seq);
            let page = self.store.read(move |tx| tx.audit_entries_after(after, 500)).await.unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// `action outcome reason` of what was logged while `work` ran.
    pub async fn audited_during<T>(&self, work: impl Future<Output = T>) -> (T, Vec<String>) {
        let before = self.audit_log().await.len();
        let out = work.await;
        (out, self.audit_log().await.iter().skip(before).map(entry_summary).collect())
    }

    /// Nothing is left: no live session, no desktop, no tunnel; and the log is whole.
    pub async fn assert_empty(&self) {
        let live = self.store.read(|tx| tx.live_sessions()).await.unwrap();
        assert!(live.is_empty(), "{live:?}");
        assert!(self.fleet.desktops(self.host).is_empty());
        self.assert_chain_valid().await;
    }

    pub async fn assert_chain_valid(&self) {
        assert_eq!(self.store.verify_chain().await.unwrap().fault, None);
    }
}

pub fn entry_summary(entry: &Entry) -> String {
    let reason = entry.reason.as_deref().unwrap_or("-");
    format!("{} {} {reason}", entry.action, entry.outcome.as_str())
}

/// Waits, as a relay does, until the right ends.
pub async fn wait_revoked(grant: &mut StreamGrant) -> StreamAuthorization {
    let right = timeout(
        REVOKE_TIMEOUT,
        grant.authorization.wait_for(|right| *right != StreamAuthorization::Valid),
    )
    .await;
    *right.expect("the stream was not cut at once").unwrap()
}

pub fn error_kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.expect_err("it was accepted").kind
}

pub const fn session_ended(reason: EndReason) -> StreamAuthorization {
    StreamAuthorization::SessionEnded(reason)
}
