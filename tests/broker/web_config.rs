//! Web applications: what an admin may say of one, what a stream is granted, why a launch fails,
//! what a host offers.

use super::fixture::{BrokerFixture, error_kind, origin, secret, settings, wait_revoked};
use portcullis::broker::Settings;
use portcullis::broker::credentials::NewCredential;
use portcullis::broker::fleet::{HostCapabilities, ProbeFailure};
use portcullis::broker::live::StreamAuthorization;
use portcullis::broker::servers::PresentedCertificate;
use portcullis::broker::views::{
    NewWorkspace, PolicyChange, UpstreamChange, WebChange, WorkspaceChange, WorkspaceView,
};
use portcullis::domain::route::TargetSpec;
use portcullis::domain::upstream::{Clipboard, CredentialSource, Fingerprint};
use portcullis::domain::user::{Caller, Role};
use portcullis::domain::web_app::{Scheme, UpstreamSignIn};
use portcullis::domain::workspace::{WorkspaceKind, WorkspaceStatus};
use portcullis::domain::{Error, ErrorKind, WorkspaceId};

fn wiki() -> WorkspaceId {
    WorkspaceId::parse("ws-wiki").unwrap()
}

fn new(
    world: &BrokerFixture,
    web: WebChange,
    server: UpstreamChange,
    password: Option<&str>,
) -> NewWorkspace {
    let target = Some(TargetSpec::Service { host_id: world.host, name: "wiki".into() });
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
    world: &BrokerFixture,
    root: &Caller,
    new: NewWorkspace,
) -> Result<WorkspaceView, Error> {
    world.broker.create_workspace(&origin(), root, new).await
}

async fn update(
    world: &BrokerFixture,
    root: &Caller,
    change: WorkspaceChange,
) -> Result<WorkspaceView, Error> {
    world.broker.update_workspace(&origin(), root, &wiki(), change).await
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
    async fn what_makes_no_sense_is_refused(db) {
        let world = BrokerFixture::new(&db).await;
        let root = world.caller("root", Role::Admin).await;
        let plain = || new(&world, WebChange::default(), UpstreamChange::default(), None);
        let rest = |rest: WorkspaceChange| NewWorkspace { properties: rest, ..plain() };
        let words = |list: &[&str]| Some(list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let bad = [
            ("no target", rest(WorkspaceChange { target: None, ..plain().properties })),
            ("a desktop's policy", rest(WorkspaceChange { policy: PolicyChange { clipboard: Some(Clipboard::None), ..PolicyChange::default() }, ..plain().properties })),
            ("a credential nobody uses", new(&world, WebChange::default(), from(CredentialSource::User), None)),
            ("a name nobody uses", new(&world, WebChange::default(), named("svc"), None)),
            ("a password nobody uses", new(&world, WebChange::default(), UpstreamChange::default(), Some("p"))),
            ("typed once", new(&world, basic(), from(CredentialSource::Ask), None)),
            ("basic without a name", new(&world, basic(), UpstreamChange::default(), Some("p"))),
            ("a colon in a name", new(&world, basic(), named("a:b"), Some("p"))),
            ("a name beside a header", new(&world, by("x-key"), named("svc"), Some("p"))),
            ("a header's value that is none", new(&world, by("x-key"), UpstreamChange::default(), Some("ä"))),
            ("a framing header", new(&world, by("Content-Length"), UpstreamChange::default(), None)),
            ("a domain", new(&world, basic(), UpstreamChange { domain: Some("CORP".into()), ..named("svc") }, None)),
            ("a keyboard", new(&world, WebChange::default(), UpstreamChange { keyboard: Some(Some(0x407)), ..UpstreamChange::default() }, None)),
            ("another site's start", new(&world, WebChange { start: Some("//evil.example/".into()), ..WebChange::default() }, UpstreamChange::default(), None)),
            ("a start beside the paths", new(&world, WebChange { start: Some("/lab".into()), paths: words(&["/wiki"]), ..WebChange::default() }, UpstreamChange::default(), None)),
            ("no GET", new(&world, WebChange { methods: words(&["POST"]), ..WebChange::default() }, UpstreamChange::default(), None)),
            ("CONNECT", new(&world, WebChange { methods: words(&["GET", "CONNECT"]), ..WebChange::default() }, UpstreamChange::default(), None)),
            ("web of a desktop", NewWorkspace { kind: WorkspaceKind::Rdp, ..new(&world, WebChange { scheme: Some(Scheme::Https), ..WebChange::default() }, UpstreamChange::default(), None) }),
        ];
        for (what, bad) in bad {
            assert_eq!(error_kind(create(&world, &root, bad).await), ErrorKind::Invalid, "{what}");
        }
        let made = create(&world, &root, plain()).await.unwrap();
        assert_eq!((made.workspace.upstream.web_app.start.as_str(), made.workspace.single_seat, made.workspace.icon.as_str()), ("/", false, "browser"));
        assert_eq!(error_kind(update(&world, &root, of_web(WebChange { start: Some("/\\evil".into()), ..WebChange::default() })).await), ErrorKind::Invalid);
    }

    async fn a_stream_is_granted_the_terms_and_the_credential_as_they_are(db) {
        let world = BrokerFixture::new(&db).await;
        let (root, ann) = (world.caller("root", Role::Admin).await, world.caller("ann", Role::Member).await);
        create(&world, &root, new(&world, basic(), named("svc"), Some("a-web-password"))).await.unwrap();
        let session = world.launch(&ann, &wiki()).await;
        let mut grant = world.open_stream(&ann, session.id).await;
        let server = grant.lease.upstream();
        let credential = server.credential.as_ref().unwrap();
        assert_eq!((credential.username.as_str(), credential.password.expose().as_str()), ("svc", "a-web-password"));
        let web = server.web_app.as_ref().unwrap();
        assert_eq!((web.scheme, web.start.as_str(), &web.sign_in), (Scheme::Http, "/", &UpstreamSignIn::Basic));
        // A member learns how it signs in, and nothing more.
        let view = world.broker.workspace(&ann, &wiki()).await.unwrap().upstream.unwrap();
        assert!(view.credential_saved && view.managed.is_none() && view.sign_in == Some(UpstreamSignIn::Basic));
        // Other terms: the open ones are cut.
        update(&world, &root, of_web(WebChange { upload: Some(false), ..WebChange::default() })).await.unwrap();
        assert_eq!(wait_revoked(&mut grant).await, StreamAuthorization::PolicyChanged);
        assert!(!world.open_stream(&ann, session.id).await.lease.upstream().web_app.as_ref().unwrap().requests.upload);
        // Each user's own.
        let own = WorkspaceChange { upstream: from(CredentialSource::User), ..of_web(by("X-Api-Key")) };
        update(&world, &root, own).await.unwrap();
        assert!(world.open_stream(&ann, session.id).await.lease.upstream().credential.is_none());
        let save = |username: &str, password: &str| {
            let new = NewCredential { username: Some(username.into()), domain: None, password: secret(password) };
            let (world, ann) = (&world, &ann);
            async move { world.broker.save_credential(&origin(), ann, &wiki(), new).await }
        };
        assert_eq!(error_kind(save("ann", "k").await), ErrorKind::Invalid, "a header has no name");
        assert_eq!(error_kind(save("", "a\u{e4}").await), ErrorKind::Invalid, "nor what is no field value");
        save("", "anns-key").await.unwrap();
        let grant = world.open_stream(&ann, session.id).await;
        assert_eq!(grant.lease.upstream().credential.as_ref().unwrap().password.expose(), "anns-key");
        assert_eq!(grant.lease.upstream().web_app.as_ref().unwrap().sign_in, UpstreamSignIn::Header("x-api-key".into()));
        // Without a sign-in nothing is kept, the users' neither.
        update(&world, &root, of_web(WebChange { sign_in: Some(UpstreamSignIn::None), ..WebChange::default() })).await.unwrap();
        assert!(world.store.read(move |tx| tx.user_credential(&wiki(), ann.user.id)).await.unwrap().is_none());
        update(&world, &root, WorkspaceChange { password: Some(secret("again")), upstream: named("svc"), ..of_web(basic()) }).await.unwrap();
        update(&world, &root, of_web(WebChange { sign_in: Some(UpstreamSignIn::None), ..WebChange::default() })).await.unwrap();
        let view = world.broker.workspace(&root, &wiki()).await.unwrap().upstream.unwrap();
        assert!(!view.credential_saved && view.managed.unwrap().username.is_empty());
        let log = serde_json::to_string(&world.audit_log().await).unwrap();
        assert!(!log.contains("a-web-password") && !log.contains("anns-key") && log.contains("header x-api-key"));
    }

    async fn a_launch_says_why_the_application_does_not_answer(db) {
        let world = BrokerFixture::new(&db).await;
        let (root, ann) = (world.caller("root", Role::Admin).await, world.caller("ann", Role::Member).await);
        create(&world, &root, new(&world, WebChange { scheme: Some(Scheme::Https), ..WebChange::default() }, UpstreamChange::default(), None)).await.unwrap();
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
            world.fleet.plan_probe(Some(how.clone()));
            let (refused, log) = world.audited_during(world.broker.launch(&origin(), &ann, &wiki())).await;
            let error = refused.unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unavailable, how.user_message()), "{how:?}");
            assert!(log.contains(&format!("launch_workspace error {word}")), "{how:?}: {log:?}");
            let shown = log.contains(&"certificate_refused denied changed".to_owned());
            assert_eq!(shown, word == "application_certificate", "{log:?}");
            assert!(world.live_sessions().await.is_empty(), "{how:?}");
        }
        // The certificate is there for an admin to see and to accept; then the next launch must
        // meet it.
        let state = world.broker.workspace(&root, &wiki()).await.unwrap().upstream.unwrap().managed.unwrap().state;
        let offered = state.offered.unwrap();
        assert_eq!((offered.fingerprint, offered.subject.as_str(), state.pinned), (seen.fingerprint, "CN=wiki", None));
        world.broker.accept_certificate(&origin(), &root, &wiki(), &seen.fingerprint.to_string()).await.unwrap();
        world.fleet.plan_probe(None);
        let session = world.launch(&ann, &wiki()).await;
        assert_eq!(world.fleet.pin_of(session.id), Some(seen.fingerprint));
        assert_eq!(world.open_stream(&ann, session.id).await.lease.upstream().trust.pin, Some(seen.fingerprint));
    }

    async fn what_a_host_does_not_offer_cannot_be_launched(db) {
        let world = BrokerFixture::new(&db).await;
        let (root, ann) = (world.caller("root", Role::Admin).await, world.caller("ann", Role::Member).await);
        create(&world, &root, new(&world, WebChange::default(), UpstreamChange::default(), None)).await.unwrap();
        let desktop = world.workspace("ws-desk", WorkspaceChange::default()).await;
        let status = |id: WorkspaceId| { let (world, ann) = (&world, &ann); async move { world.broker.workspace(ann, &id).await.unwrap().status } };
        assert_eq!(status(wiki()).await, WorkspaceStatus::Available, "it has not said yet");
        let full = HostCapabilities {
            kinds: vec![WorkspaceKind::Linux],
            service_kinds: vec![WorkspaceKind::Html5, WorkspaceKind::Rdp],
            services: vec![("wiki".into(), false)],
        };
        for (lacks, offers) in [
            ("the name", HostCapabilities { services: vec![("other".into(), true)], ..full.clone() }),
            ("the kind", HostCapabilities { service_kinds: vec![WorkspaceKind::Rdp], ..full.clone() }),
        ] {
            world.fleet.set_offers(world.host, offers);
            assert_eq!((status(wiki()).await, status(desktop.clone()).await), (WorkspaceStatus::Offline, WorkspaceStatus::Available), "{lacks}");
            let (refused, log) = world.audited_during(world.broker.launch(&origin(), &ann, &wiki())).await;
            assert_eq!((refused.unwrap_err().kind, log), (ErrorKind::Unavailable, vec!["launch_workspace error service_not_offered".to_owned()]), "{lacks}");
        }
        world.fleet.set_offers(world.host, HostCapabilities { kinds: vec![WorkspaceKind::Rdp], ..full.clone() });
        assert_eq!((status(wiki()).await, status(desktop.clone()).await), (WorkspaceStatus::Available, WorkspaceStatus::Offline));
        let (refused, log) = world.audited_during(world.broker.launch(&origin(), &ann, &desktop)).await;
        assert_eq!((refused.unwrap_err().kind, log), (ErrorKind::Unavailable, vec!["launch_workspace error kind_not_offered".to_owned()]));
        // One that does not is passed over, however idle.
        let able = world.add_host("host-2", 2).await;
        world.fleet.set_offers(able, full.clone());
        assert_eq!(world.launch(&ann, &desktop).await.host_id, able);
        world.fleet.set_offers(world.host, full);
        assert_eq!(world.launch(&ann, &wiki()).await.host_id, world.host, "down or not is for the launch to see");
        let hosts = world.broker.hosts(&origin(), &root).await.unwrap();
        let told = hosts.iter().find(|view| view.host.id == able).unwrap().capabilities.clone().unwrap();
        assert_eq!(told.services, [("wiki".to_owned(), false)]);
    }

    async fn without_a_domain_for_them_none_is_opened(db) {
        let world = BrokerFixture::with(&db, Settings { web_applications: false, ..settings() }).await;
        let (root, ann) = (world.caller("root", Role::Admin).await, world.caller("ann", Role::Member).await);
        create(&world, &root, new(&world, WebChange::default(), UpstreamChange::default(), None)).await.unwrap();
        assert_eq!(world.broker.workspace(&ann, &wiki()).await.unwrap().status, WorkspaceStatus::Offline);
        let (refused, log) = world.audited_during(world.broker.launch(&origin(), &ann, &wiki())).await;
        let error = refused.unwrap_err();
        assert_eq!((error.kind, error.message.contains("apps.domain")), (ErrorKind::Unavailable, true));
        assert_eq!(log, ["launch_workspace error no_apps_domain"]);
    }
}
