//! Web applications: what an admin may say of one, what a stream is granted, why a launch fails,
//! what a host offers.

use super::fixture::{BrokerFixture, error_kind, origin, secret, settings, wait_revoked};
use portcullis::broker::Settings;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::broker::model::HostCapabilities;
use portcullis::broker::model::NewCredential;
use portcullis::broker::model::PresentedCertificate;
use portcullis::broker::model::{
    NewWorkspace, PolicyChange, UpstreamChange, WebChange, WorkspaceChange, WorkspaceView,
};
use portcullis::broker::ports::host_fleet::ProbeFailure;
use portcullis::domain::principal::Principal;
use portcullis::domain::route::TargetSpec;
use portcullis::domain::upstream::{Clipboard, CredentialSource, Fingerprint};
use portcullis::domain::user::Role;
use portcullis::domain::web_app::{Scheme, UpstreamSignIn};
use portcullis::domain::workspace::{WorkspaceKind, WorkspaceStatus};
use portcullis::domain::{Error, ErrorKind, WorkspaceId};

fn wiki() -> WorkspaceId {
    WorkspaceId::parse("ws-wiki").unwrap()
}

fn new(
    fixture: &BrokerFixture,
    web: WebChange,
    server: UpstreamChange,
    password: Option<&str>,
) -> NewWorkspace {
    let target = Some(TargetSpec::Service { host_id: fixture.host, name: "wiki".into() });
    let rest = WorkspaceChange {
        target,
        requires_mfa: Some(false),
        web,
        upstream: server,
        password: password.map(secret),
        ..WorkspaceChange::default()
    };
    NewWorkspace {
        id: Some(wiki()),
        name: "Wiki".into(),
        description: String::new(),
        kind: WorkspaceKind::Html5,
        properties: rest,
    }
}

async fn create(
    fixture: &BrokerFixture,
    root: &Principal,
    new: NewWorkspace,
) -> Result<WorkspaceView, Error> {
    fixture.broker.workspaces().create(&origin(), root, new).await
}

async fn update(
    fixture: &BrokerFixture,
    root: &Principal,
    change: WorkspaceChange,
) -> Result<WorkspaceView, Error> {
    fixture.broker.workspaces().update(&origin(), root, &wiki(), change).await
}

fn basic() -> WebChange {
    WebChange { sign_in: Some(UpstreamSignIn::Basic), ..WebChange::default() }
}

fn by(header: &str) -> WebChange {
    WebChange { sign_in: Some(UpstreamSignIn::Header(header.into())), ..WebChange::default() }
}

fn from(source: CredentialSource) -> UpstreamChange {
    UpstreamChange { source: Some(source), ..UpstreamChange::default() }
}

fn named(name: &str) -> UpstreamChange {
    UpstreamChange { username: Some(name.into()), ..UpstreamChange::default() }
}

fn of_web(web: WebChange) -> WorkspaceChange {
    WorkspaceChange { web, ..WorkspaceChange::default() }
}

on_both! {
    async fn invalid_combinations_are_rejected(db) {
        let fixture = BrokerFixture::new(&db).await;
        let root = fixture.caller("root", Role::Admin).await;
        let plain = || new(&fixture, WebChange::default(), UpstreamChange::default(), None);
        let rest = |rest: WorkspaceChange| NewWorkspace { properties: rest, ..plain() };
        let words = |list: &[&str]| Some(list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let bad = [
            ("no target", rest(WorkspaceChange { target: None, ..plain().properties })),
            ("a desktop's policy", rest(WorkspaceChange { policy: PolicyChange { clipboard: Some(Clipboard::None), ..PolicyChange::default() }, ..plain().properties })),
            ("a credential nobody uses", new(&fixture, WebChange::default(), from(CredentialSource::User), None)),
            ("a name nobody uses", new(&fixture, WebChange::default(), named("svc"), None)),
            ("a password nobody uses", new(&fixture, WebChange::default(), UpstreamChange::default(), Some("p"))),
            ("typed once", new(&fixture, basic(), from(CredentialSource::Ask), None)),
            ("basic without a name", new(&fixture, basic(), UpstreamChange::default(), Some("p"))),
            ("a colon in a name", new(&fixture, basic(), named("a:b"), Some("p"))),
            ("a name beside a header", new(&fixture, by("x-key"), named("svc"), Some("p"))),
            ("a header's value that is none", new(&fixture, by("x-key"), UpstreamChange::default(), Some("ä"))),
            ("a framing header", new(&fixture, by("Content-Length"), UpstreamChange::default(), None)),
            ("a domain", new(&fixture, basic(), UpstreamChange { domain: Some("CORP".into()), ..named("svc") }, None)),
            ("a keyboard", new(&fixture, WebChange::default(), UpstreamChange { keyboard: Some(Some(0x407)), ..UpstreamChange::default() }, None)),
            ("another site's start", new(&fixture, WebChange { start: Some("//evil.example/".into()), ..WebChange::default() }, UpstreamChange::default(), None)),
            ("a start beside the paths", new(&fixture, WebChange { start: Some("/lab".into()), paths: words(&["/wiki"]), ..WebChange::default() }, UpstreamChange::default(), None)),
            ("no GET", new(&fixture, WebChange { methods: words(&["POST"]), ..WebChange::default() }, UpstreamChange::default(), None)),
            ("CONNECT", new(&fixture, WebChange { methods: words(&["GET", "CONNECT"]), ..WebChange::default() }, UpstreamChange::default(), None)),
            ("web of a desktop", NewWorkspace { kind: WorkspaceKind::Rdp, ..new(&fixture, WebChange { scheme: Some(Scheme::Https), ..WebChange::default() }, UpstreamChange::default(), None) }),
        ];
        for (what, bad) in bad {
            assert_eq!(error_kind(create(&fixture, &root, bad).await), ErrorKind::Invalid, "{what}");
        }
        let made = create(&fixture, &root, plain()).await.unwrap();
        assert_eq!((made.upstream.as_ref().unwrap().managed.as_ref().unwrap().web.as_ref().unwrap().start.as_str(), made.workspace.single_seat, made.workspace.icon.as_str()), ("/", false, "browser"));
        assert_eq!(error_kind(update(&fixture, &root, of_web(WebChange { start: Some("/\\evil".into()), ..WebChange::default() })).await), ErrorKind::Invalid);
    }

    async fn stream_gets_current_config_and_credential(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        create(&fixture, &root, new(&fixture, basic(), named("svc"), Some("a-web-password"))).await.unwrap();
        let session = fixture.launch(&ann, &wiki()).await;
        let mut grant = fixture.open_stream(&ann, session.id).await;
        let server = grant.lease.upstream();
        let credential = server.credential.as_ref().unwrap();
        assert_eq!((credential.username.as_str(), credential.password.expose().as_str()), ("svc", "a-web-password"));
        let web = server.web_app().unwrap();
        assert_eq!((web.scheme, web.start.as_str(), &web.sign_in), (Scheme::Http, "/", &UpstreamSignIn::Basic));
        // A member learns how it signs in, and nothing more.
        let view = fixture.broker.workspaces().get(&ann, &wiki()).await.unwrap().upstream.unwrap();
        assert!(view.credential_saved && view.managed.is_none() && view.sign_in == Some(UpstreamSignIn::Basic));
        // Other terms: the open ones are cut.
        update(&fixture, &root, of_web(WebChange { upload: Some(false), ..WebChange::default() })).await.unwrap();
        assert_eq!(wait_revoked(&mut grant).await, StreamAuthorization::PolicyChanged);
        assert!(!fixture.open_stream(&ann, session.id).await.lease.upstream().web_app().unwrap().requests.upload);
        // Each user's own.
        let own = WorkspaceChange { upstream: from(CredentialSource::User), ..of_web(by("X-Api-Key")) };
        update(&fixture, &root, own).await.unwrap();
        assert!(fixture.open_stream(&ann, session.id).await.lease.upstream().credential.is_none());
        let save = |username: &str, password: &str| {
            let new = NewCredential { username: Some(username.into()), domain: None, password: secret(password) };
            let (fixture, ann) = (&fixture, &ann);
            async move { fixture.broker.credentials().save(&origin(), ann, &wiki(), new).await }
        };
        assert_eq!(error_kind(save("ann", "k").await), ErrorKind::Invalid, "a header has no name");
        assert_eq!(error_kind(save("", "a\u{e4}").await), ErrorKind::Invalid, "nor what is no field value");
        save("", "anns-key").await.unwrap();
        let grant = fixture.open_stream(&ann, session.id).await;
        assert_eq!(grant.lease.upstream().credential.as_ref().unwrap().password.expose(), "anns-key");
        assert_eq!(grant.lease.upstream().web_app().unwrap().sign_in, UpstreamSignIn::Header("x-api-key".into()));
        // Without a sign-in nothing is kept, the users' neither.
        update(&fixture, &root, of_web(WebChange { sign_in: Some(UpstreamSignIn::None), ..WebChange::default() })).await.unwrap();
        let key = fixture.key(&wiki());
        assert!(fixture.store.read(move |tx| tx.user_credential(&key, ann.user.id)).await.unwrap().is_none());
        update(&fixture, &root, WorkspaceChange { password: Some(secret("again")), upstream: named("svc"), ..of_web(basic()) }).await.unwrap();
        update(&fixture, &root, of_web(WebChange { sign_in: Some(UpstreamSignIn::None), ..WebChange::default() })).await.unwrap();
        let view = fixture.broker.workspaces().get(&root, &wiki()).await.unwrap().upstream.unwrap();
        assert!(!view.credential_saved && view.managed.unwrap().username.is_empty());
        let log = serde_json::to_string(&fixture.audit_log().await).unwrap();
        assert!(!log.contains("a-web-password") && !log.contains("anns-key") && log.contains("header x-api-key"));
    }

    async fn launch_reports_probe_failure(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        create(&fixture, &root, new(&fixture, WebChange { scheme: Some(Scheme::Https), ..WebChange::default() }, UpstreamChange::default(), None)).await.unwrap();
        let seen = PresentedCertificate { fingerprint: Fingerprint([7; 32]), subject: "CN=wiki\n".into() };
        for (how, word) in [
            (ProbeFailure::Down, "application_down"),
            (ProbeFailure::Slow, "application_slow"),
            (ProbeFailure::Closed, "application_closed"),
            (ProbeFailure::NotHttp, "application_not_http"),
            (ProbeFailure::Tls, "application_speaks_tls"),
            (ProbeFailure::NoTls("x".into()), "application_without_tls"),
            (ProbeFailure::Certificate { certificate: seen.clone(), reason: "changed" }, "application_certificate"),
        ] {
            fixture.fleet.plan_probe(Some(how.clone()));
            let (refused, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &wiki())).await;
            let error = refused.unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unavailable, how.user_message()), "{how:?}");
            assert!(log.contains(&format!("launch_workspace error {word}")), "{how:?}: {log:?}");
            let shown = log.contains(&"certificate_refused denied changed".to_owned());
            assert_eq!(shown, word == "application_certificate", "{log:?}");
            assert!(fixture.live_sessions().await.is_empty(), "{how:?}");
        }
        // The certificate is there for an admin to see and to accept; then the next launch must
        // meet it.
        let state = fixture.broker.workspaces().get(&root, &wiki()).await.unwrap().upstream.unwrap().managed.unwrap().state;
        let offered = state.offered.unwrap();
        assert_eq!((offered.fingerprint, offered.subject.as_str(), state.pinned), (seen.fingerprint, "CN=wiki", None));
        fixture.broker.certificates().accept(&origin(), &root, &wiki(), seen.fingerprint).await.unwrap();
        fixture.fleet.plan_probe(None);
        let session = fixture.launch(&ann, &wiki()).await;
        assert_eq!(fixture.fleet.pin_of(session.id), Some(seen.fingerprint));
        assert_eq!(fixture.open_stream(&ann, session.id).await.lease.upstream().trust.pin, Some(seen.fingerprint));
    }

    async fn missing_capability_prevents_launch(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        create(&fixture, &root, new(&fixture, WebChange::default(), UpstreamChange::default(), None)).await.unwrap();
        let desktop = fixture.workspace("ws-desk", WorkspaceChange::default()).await;
        let status = |id: WorkspaceId| { let (fixture, ann) = (&fixture, &ann); async move { fixture.broker.workspaces().get(ann, &id).await.unwrap().status } };
        assert_eq!(status(wiki()).await, WorkspaceStatus::Available, "it has not said yet");
        let full = HostCapabilities {
            kinds: vec![WorkspaceKind::Linux],
            service_kinds: vec![WorkspaceKind::Html5, WorkspaceKind::Rdp],
            limits: None,
            services: vec![("wiki".into(), false)],
            slots: None,
        };
        for (lacks, offers) in [
            ("the name", HostCapabilities { services: vec![("other".into(), true)], ..full.clone() }),
            ("the kind", HostCapabilities { service_kinds: vec![WorkspaceKind::Rdp], ..full.clone() }),
        ] {
            fixture.fleet.set_offers(fixture.host, offers);
            assert_eq!((status(wiki()).await, status(desktop.clone()).await), (WorkspaceStatus::Offline, WorkspaceStatus::Available), "{lacks}");
            let (refused, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &wiki())).await;
            assert_eq!((refused.unwrap_err().kind, log), (ErrorKind::Unavailable, vec!["launch_workspace error service_not_offered".to_owned()]), "{lacks}");
        }
        fixture.fleet.set_offers(fixture.host, HostCapabilities { kinds: vec![WorkspaceKind::Rdp], ..full.clone() });
        assert_eq!((status(wiki()).await, status(desktop.clone()).await), (WorkspaceStatus::Available, WorkspaceStatus::Offline));
        let (refused, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &desktop)).await;
        assert_eq!((refused.unwrap_err().kind, log), (ErrorKind::Unavailable, vec!["launch_workspace error kind_not_offered".to_owned()]));
        // One that does not is passed over, however idle.
        let able = fixture.add_host("host-2", 2).await;
        fixture.fleet.set_offers(able, full.clone());
        assert_eq!(fixture.launch(&ann, &desktop).await.host_id, Some(able));
        fixture.fleet.set_offers(fixture.host, full);
        assert_eq!(fixture.launch(&ann, &wiki()).await.host_id, Some(fixture.host), "down or not is for the launch to see");
        let hosts = fixture.broker.hosts().list(&origin(), &root).await.unwrap();
        let reported = hosts.iter().find(|view| view.host.id == able).unwrap().capabilities.clone().unwrap();
        assert_eq!(reported.services, [("wiki".to_owned(), false)]);
    }

    async fn no_apps_domain_prevents_launch(db) {
        let fixture = BrokerFixture::with(&db, Settings { web_applications: false, ..settings() }).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        create(&fixture, &root, new(&fixture, WebChange::default(), UpstreamChange::default(), None)).await.unwrap();
        assert_eq!(fixture.broker.workspaces().get(&ann, &wiki()).await.unwrap().status, WorkspaceStatus::Offline);
        let (refused, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &wiki())).await;
        let error = refused.unwrap_err();
        assert_eq!((error.kind, error.message.contains("apps.domain")), (ErrorKind::Unavailable, true));
        assert_eq!(log, ["launch_workspace error no_apps_domain"]);
    }
}
