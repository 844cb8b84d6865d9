//! A complete gateway: `TestApp::start(db).await` is a store, a broker and an HTTPS server
//! on a loopback port, with one connected fake host.
//!
//! Clients are anonymous, programs with a bearer token, or browsers with cookies. The test controls
//! the clock: [`TestApp::advance`].

pub use super::app_parts::wireguard_key;
use super::app_parts::{SilentDesktop, broker_settings, certificate, password};
use super::client::{Answer, Client};
use super::db::{Backend, Db, vault};
use super::fake_fleet::FakeFleet;
use super::logs;
use portcullis::auth::totp;
use portcullis::broker::Broker;
use portcullis::broker::model::{AuditQuery, HostEnrollment, NewWorkspace, WorkspaceChange};
use portcullis::domain::audit::{Action, ActorFilter, Outcome};
use portcullis::domain::principal::Principal;
use portcullis::domain::rate_limit::Quota;
use portcullis::domain::secret::SecretString;
use portcullis::domain::user::{RequestSource, Role, User};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{Clock, HostId, OrganizationId, Timestamp, UserId, WorkspaceId};
use portcullis::http::api::definition::{Api, Apis};
use portcullis::http::api::workspaces;
use portcullis::http::apps::AppsSettings;
use portcullis::http::hub_status::HubStatus;
use portcullis::http::server::{self, RunningServer};
use portcullis::http::server_limits::ServerLimits;
use portcullis::http::settings::Settings;
use portcullis::http::state::AppState;
use portcullis::store::Store;
use portcullis::viewer::{self, Dial};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// A workspace that every member may launch.
pub const WORKSPACE: &str = "ws-desk";
/// A workspace that requires a second factor.
pub const MFA_WORKSPACE: &str = "ws-guarded";
/// The domain of web applications' origins.
pub const APPS_DOMAIN: &str = "apps.localhost";
/// A single-seat workspace.
pub const SINGLE_SEAT_WORKSPACE: &str = "ws-single";

/// A gateway under test.
pub struct TestApp {
    pub base: String,
    pub port: u16,
    pub broker: Broker,
    pub state: AppState,
    pub clock: Arc<TestClock>,
    pub fleet: Arc<FakeFleet>,
    pub host: HostId,
    /// When set, the tunnel status probe panics.
    pub probe_panics: Arc<AtomicBool>,
    pub tls: Arc<rustls::ClientConfig>,
    /// The certificate that clients trust.
    pub root: reqwest::Certificate,
    /// The password of all users; random, so that logs can be searched for it.
    pub password: String,
    http: reqwest::Client,
    users: HashMap<&'static str, TestUser>,
    running: Option<RunningServer>,
    _db: Db,
}

#[derive(Clone)]
pub struct TestUser {
    pub id: UserId,
    pub email: String,
    pub totp: Option<SecretString>,
}

impl TestApp {
    /// With default settings, on SQLite: for tests that do not depend on the database.
    pub async fn sqlite() -> Self {
        Self::start(Db::new(Backend::Sqlite)).await
    }

    /// With default settings.
    pub async fn start(db: Db) -> Self {
        Self::with(db, |_, _| ()).await
    }

    /// With changed settings.
    pub async fn with(db: Db, change: impl FnOnce(&mut Settings, &mut ServerLimits)) -> Self {
        Self::with_dial(db, Arc::new(SilentDesktop), change).await
    }

    /// With changed settings and desktops reached by `dial`.
    pub async fn with_dial(
        db: Db,
        dial: Arc<dyn Dial>,
        change: impl FnOnce(&mut Settings, &mut ServerLimits),
    ) -> Self {
        Self::with_parts(db, dial, Vec::new(), change).await
    }

    /// With other APIs beside the workspaces API.
    pub async fn with_apis(db: Db, apis: Vec<Arc<Api>>) -> Self {
        Self::with_parts(db, Arc::new(SilentDesktop), apis, |_, _| ()).await
    }

    async fn with_parts(
        db: Db,
        dial: Arc<dyn Dial>,
        mut apis: Vec<Arc<Api>>,
        change: impl FnOnce(&mut Settings, &mut ServerLimits),
    ) -> Self {
        apis.push(workspaces::api());
        logs::capture();
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));

        let clock = Arc::new(TestClock::default());
        let fleet = FakeFleet::new();
        let audit_public_key = vault().audit_public_key();
        let broker =
            Broker::new(db.store.clone(), vault(), fleet.clone(), clock.clone(), broker_settings());
        let probe_panics = Arc::new(AtomicBool::new(false));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let base = format!("https://localhost:{port}");
        let rate = Quota::per_second(10_000, 10_000);
        let (server_tls, client_tls, root) = certificate();
        let apps =
            AppsSettings::new(APPS_DOMAIN, &base, &[], Duration::from_secs(1800), &server_tls);
        let mut settings = Settings {
            public_origins: vec![base.clone()],
            anonymous_rate: rate,
            any_rate: rate,
            audit_public_key,
            apps: Some(apps),
            ..Settings::default()
        };
        // Long enough for a busy machine, shorter than the ping timeout of an open stream (15 s).
        let mut limits = ServerLimits {
            workers: 1,
            drain_timeout: Duration::from_secs(10),
            ..ServerLimits::default()
        };
        change(&mut settings, &mut limits);
        let streams =
            viewer::Context { broker: broker.clone(), dial, draining: watch::channel(false).1 };
        let panics = Arc::clone(&probe_panics);
        let probe = Arc::new(move || {
            assert!(!panics.load(Ordering::SeqCst), "the test made the probe panic");
            HubStatus {
                running: true,
                listen: "127.0.0.1:1".to_owned(),
                encrypted: 1,
                ..HubStatus::default()
            }
        });
        let state = AppState::new(broker.clone(), streams, settings, probe, Apis::new(apis));
        let running = server::start(state.clone(), vec![listener], &server_tls, limits).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([root.clone()])
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();

        let mut app = Self {
            base,
            port,
            broker,
            state,
            clock,
            fleet,
            host: HostId::new(),
            probe_panics,
            tls: Arc::new(client_tls),
            root,
            password: password().0.clone(),
            http,
            users: HashMap::new(),
            running: Some(running),
            _db: db,
        };
        app.seed().await;
        app
    }

    /// Creates the organization, its users, a host and workspaces.
    async fn seed(&mut self) {
        let shell = RequestSource::local("test");
        self.broker.organizations().ensure("Test").await.unwrap();
        self.broker.lifecycle().start(&shell).await.unwrap();
        let system = self.broker.organizations().system_principal().await.unwrap();
        let people = [
            ("member", Role::Member, true),
            ("other", Role::Member, true),
            ("admin", Role::Admin, true),
            ("security", Role::Security, true),
            ("newcomer", Role::Member, false),
        ];
        let organization = system.organization_id().unwrap();
        for (name, role, enrolled) in people {
            self.add_user(name, organization, role, enrolled).await;
        }
        let token = self
            .broker
            .hosts()
            .create_join_token(&shell, &system, None, Duration::from_secs(600))
            .await
            .unwrap();
        let enrollment = HostEnrollment {
            token: token.token,
            name: "host-1".to_owned(),
            public_key: wireguard_key(),
            version: "0.1.0".to_owned(),
        };
        let enrolled = self.broker.hosts().enroll(&shell, enrollment).await.unwrap();
        self.host = enrolled.host.id;
        self.fleet.connect(self.host);
        for (id, requires_mfa, single_seat) in [
            (WORKSPACE, false, false),
            (MFA_WORKSPACE, true, false),
            (SINGLE_SEAT_WORKSPACE, false, true),
        ] {
            let roles = vec![Role::Member, Role::Admin];
            let rest = WorkspaceChange {
                requires_mfa: Some(requires_mfa),
                single_seat: Some(single_seat),
                allowed_roles: Some(roles),
                ..WorkspaceChange::default()
            };
            let id = WorkspaceId::parse(id).unwrap();
            let new = NewWorkspace {
                id: Some(id),
                name: "Desk".to_owned(),
                description: String::new(),
                kind: WorkspaceKind::Linux,
                properties: rest,
            };
            self.broker.workspaces().create(&shell, &system, new).await.unwrap();
        }
    }

    /// A user with the password of all; `enrolled`: with a second factor.
    pub async fn add_user(
        &mut self,
        name: &'static str,
        organization_id: OrganizationId,
        role: Role,
        enrolled: bool,
    ) {
        // Written to the store directly: the use case would hash the password, which is slow on
        // purpose.
        let user = User {
            id: UserId::new(),
            organization_id,
            email: format!("{name}@example.test"),
            name: name.to_owned(),
            role,
            mfa_enrolled: false,
            disabled: false,
            created_at: self.clock.now(),
            last_login_at: None,
        };
        let stored = user.clone();
        self._db.store.write(move |tx| tx.insert_user(&stored, &password().1)).await.unwrap();
        let totp = enrolled.then(totp::new_secret);
        if let Some(secret) = &totp {
            let system = Principal::System { organization_id: Some(organization_id) };
            let source = RequestSource::local("test");
            self.broker.totp().set(&source, &system, user.id, secret).await.unwrap();
        }
        self.users.insert(name, TestUser { id: user.id, email: user.email, totp });
    }

    pub fn store(&self) -> &Store {
        &self._db.store
    }

    pub fn user(&self, name: &str) -> &TestUser {
        &self.users[name]
    }

    pub fn advance(&self, time: Duration) {
        self.clock.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// A one-time code that was not used yet; advances the clock by one period.
    pub fn fresh_code(&self, secret: &SecretString) -> String {
        self.advance(Duration::from_secs(30));
        totp::code_at(secret, totp::step_of(self.clock.now())).unwrap()
    }

    /// A client without credentials.
    pub fn anonymous(&self) -> Client {
        Client { http: self.http.clone(), base: self.base.clone(), headers: HeaderMap::new() }
    }

    /// Signed in, with a bearer token.
    pub async fn signed_in(&self, name: &str) -> Client {
        let tokens = self.sign_in(&self.anonymous(), name).await.json();
        self.anonymous().bearer(tokens["access_token"].as_str().unwrap())
    }

    /// Signed in, with the cookies and headers of a browser on the gateway's page.
    pub async fn browser(&self, name: &str) -> Client {
        let fresh =
            self.anonymous().header("x-portcullis-session", "cookie").header("origin", &self.base);
        let answer = self.sign_in(&fresh, name).await;
        fresh.header("x-portcullis-csrf", "1").header("cookie", &answer.cookies_to_send())
    }

    /// Signs in with both factors; returns the response with the tokens.
    pub async fn sign_in(&self, client: &Client, name: &str) -> Answer {
        let user = self.user(name);
        let first = client
            .post("/api/auth/login", json!({"email": user.email, "password": self.password}))
            .await;
        assert_eq!(first.status, 200, "{}", first.body);
        let due = first.json();
        assert_eq!(due["mfa_required"], true);
        let code = self.fresh_code(user.totp.as_ref().expect("has a factor"));
        let second = client
            .post(
                "/api/auth/mfa/verify",
                json!({"mfa_token": due["mfa_token"], "method": "totp", "code": code}),
            )
            .await;
        assert_eq!(second.status, 200, "{}", second.body);
        second
    }

    /// Audit entries that match a query, newest first, as the operator of the gateway reads them.
    pub async fn audit_entries(&self, query: &str) -> Vec<Value> {
        let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(query).unwrap();
        let mut query = AuditQuery { limit: Some(500), ..AuditQuery::default() };
        for (name, value) in pairs.into_inner() {
            match name.as_str() {
                "actor" => query.actor = Some(ActorFilter::Email(value)),
                "action" => query.action = Some(Action::parse(&value).unwrap()),
                "workspace_id" => query.workspace_id = Some(value),
                "session_id" => query.session_id = Some(value),
                "outcome" => query.outcome = Some(Outcome::parse(&value).unwrap()),
                "from" => query.from = Some(Timestamp::parse(&value).unwrap()),
                "q" => query.q = Some(value),
                other => panic!("no filter {other}"),
            }
        }
        let operator = Principal::System { organization_id: None };
        let page = self.broker.audit().query(&RequestSource::local("test"), &operator, query).await;
        let entries = page.unwrap().items;
        entries.iter().map(|entry| serde_json::to_value(entry).unwrap()).collect()
    }

    /// Stops the server gracefully; true when all connections ended in time.
    pub async fn stop(&mut self) -> bool {
        self.running.take().unwrap().stop().await
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.state.start_draining();
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

/// The machine's clock plus an offset.
#[derive(Default)]
pub struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(Timestamp::from(SystemTime::now()).0 + self.0.load(Ordering::SeqCst))
    }
}
