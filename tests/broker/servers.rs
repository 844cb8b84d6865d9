//! Workspaces with a server of their own: whose credential a stream is granted, which certificate
//! it trusts, what is kept and forgotten.

use super::fixture::{
    BrokerFixture, Caller, entry_summary, error_kind, origin, secret, settings, wait_revoked,
};
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::broker::model::NewCredential;
use portcullis::broker::model::{CertificateCheck, PresentedCertificate, TransferRefusal};
use portcullis::broker::model::{
    NewWorkspace, PolicyChange, StreamProof, UpstreamChange, WorkspaceChange,
};
use portcullis::domain::route::{SessionRoute, TargetSpec};
use portcullis::domain::session::{EndReason, State};
use portcullis::domain::upstream::{
    Clipboard, Credential, CredentialSource, Fingerprint, ProtocolSettings, StreamPolicy, TrustRule,
};
use portcullis::domain::user::Role;
use portcullis::domain::workspace::{WorkspaceKind, WorkspaceStatus};
use portcullis::domain::{ErrorKind, HostId, WorkspaceId};
use std::time::Duration;

pub(super) fn service(host_id: HostId, name: &str) -> Option<TargetSpec> {
    Some(TargetSpec::Service { host_id, name: name.into() })
}

pub(super) fn new_workspace(kind: WorkspaceKind, target: Option<TargetSpec>) -> NewWorkspace {
    let rest = WorkspaceChange {
        target,
        requires_mfa: Some(false),
        single_seat: Some(false),
        ..WorkspaceChange::default()
    };
    NewWorkspace {
        id: Some(WorkspaceId::parse("ws-win").unwrap()),
        name: "Windows".into(),
        description: String::new(),
        kind,
        properties: rest,
    }
}

pub(super) fn with(
    new: NewWorkspace,
    server: UpstreamChange,
    password: Option<&str>,
) -> NewWorkspace {
    NewWorkspace {
        properties: WorkspaceChange {
            upstream: server,
            password: password.map(secret),
            ..new.properties
        },
        ..new
    }
}

pub(super) fn from(source: CredentialSource) -> UpstreamChange {
    UpstreamChange { source: Some(source), ..UpstreamChange::default() }
}

fn change(server: UpstreamChange) -> WorkspaceChange {
    WorkspaceChange { upstream: server, ..WorkspaceChange::default() }
}

fn typed(username: &str, password: &str) -> NewCredential {
    NewCredential { username: Some(username.into()), domain: None, password: secret(password) }
}

fn presented(n: u8) -> PresentedCertificate {
    PresentedCertificate { fingerprint: Fingerprint([n; 32]), subject: format!("CN=server-{n}\n") }
}

pub(super) fn credential_parts(
    credential: Option<&Credential>,
) -> Option<(String, String, String)> {
    credential.map(|c| (c.username.clone(), c.domain.clone(), c.password.expose().clone()))
}

/// An RDP service on the fixture's host, made by an admin.
async fn rdp(
    fixture: &BrokerFixture,
    server: UpstreamChange,
    password: Option<&str>,
) -> (Caller, WorkspaceId) {
    let root = fixture.caller("root", Role::Admin).await;
    let new =
        with(new_workspace(WorkspaceKind::Rdp, service(fixture.host, "xrdp")), server, password);
    let made = fixture.broker.workspaces().create(&origin(), &root, new).await.unwrap();
    (root, made.workspace.id)
}

on_both! {
    async fn service_runs_on_its_host(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        let create = |kind, target| {
            let new = new_workspace(kind, target);
            async { fixture.broker.workspaces().create(&origin(), &root, new).await }
        };
        for bad in ["", "XRDP", "a b", "127.0.0.1:3389"] {
            assert_eq!(error_kind(create(WorkspaceKind::Rdp, service(fixture.host, bad)).await), ErrorKind::Invalid, "{bad}");
        }
        assert_eq!(error_kind(create(WorkspaceKind::Linux, service(fixture.host, "xrdp")).await), ErrorKind::Invalid);
        assert_eq!(error_kind(create(WorkspaceKind::Rdp, service(HostId::new(), "xrdp")).await), ErrorKind::Invalid, "no such host");
        assert_eq!(error_kind(create(WorkspaceKind::Rdp, Some(TargetSpec::Host { host_id: fixture.host, port: 3389 })).await), ErrorKind::Invalid, "an agent gives no ports");
        assert_eq!(error_kind(create(WorkspaceKind::Vnc, None).await), ErrorKind::Invalid, "a vnc workspace names a server");
        let made = create(WorkspaceKind::Vnc, service(fixture.host, "old-vnc")).await.unwrap();
        assert_eq!(made.status, WorkspaceStatus::Available);
        let id = made.workspace.id;
        let elsewhere = fixture.add_host("host-2", 2).await;
        let session = fixture.launch(&ann, &id).await;
        assert_eq!((&session.route, session.host_id), (&SessionRoute::OwnTunnel, Some(fixture.host)));
        assert_eq!(fixture.fleet.wanted(session.id).as_deref(), Some("old-vnc"));
        fixture.fleet.disconnect(fixture.host);
        assert!(elsewhere != fixture.host);
        assert_eq!(fixture.broker.workspaces().get(&root, &id).await.unwrap().status, WorkspaceStatus::Offline, "another host has no such service");
        let bob = fixture.caller("bob", Role::Member).await;
        assert_eq!(error_kind(fixture.broker.launcher().launch(&origin(), &bob, &id).await), ErrorKind::Unavailable);
    }

    async fn workspace_credential(db) {
        let fixture = BrokerFixture::new(&db).await;
        let terms = UpstreamChange {
            username: Some("svc".into()), domain: Some("CORP".into()), keyboard: Some(Some(0x407)), ..UpstreamChange::default()
        };
        let (root, id) = rdp(&fixture, terms, Some("first-password")).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &id).await;
        let grant = fixture.open_stream(&ann, session.id).await;
        let server = grant.lease.upstream();
        assert_eq!(credential_parts(server.credential.as_ref()), Some(("svc".into(), "CORP".into(), "first-password".into())));
        assert_eq!((server.credential_source, &server.protocol, server.policy), (CredentialSource::Workspace, &ProtocolSettings::Rdp { keyboard_layout: Some(0x407) }, StreamPolicy::default()));
        assert_eq!((&server.trust.rule, server.trust.pin), (&TrustRule::FirstUse, None));
        // A new one counts from the next opening on.
        let new = WorkspaceChange { password: Some(secret("second-password")), ..WorkspaceChange::default() };
        fixture.broker.workspaces().update(&origin(), &root, &id, new).await.unwrap();
        let again = fixture.open_stream(&ann, session.id).await;
        assert_eq!(again.lease.upstream().credential.as_ref().unwrap().password.expose(), "second-password");
        assert_eq!(*again.authorization.borrow(), StreamAuthorization::Valid);
        // Members learn that there is one, and nothing of it.
        let view = fixture.broker.workspaces().get(&ann, &id).await.unwrap();
        let server = view.upstream.unwrap();
        assert!(server.credential_saved && server.managed.is_none());
        let managed = fixture.broker.workspaces().get(&root, &id).await.unwrap().upstream.unwrap().managed.unwrap();
        assert_eq!((managed.username.as_str(), managed.domain.as_str()), ("svc", "CORP"));
        // With another source, nothing of it is kept.
        fixture.broker.workspaces().update(&origin(), &root, &id, change(from(CredentialSource::Ask))).await.unwrap();
        fixture.broker.workspaces().update(&origin(), &root, &id, change(from(CredentialSource::Workspace))).await.unwrap();
        let server = fixture.broker.workspaces().get(&root, &id).await.unwrap().upstream.unwrap();
        assert!(!server.credential_saved && server.managed.unwrap().username.is_empty());
        let log = serde_json::to_string(&fixture.audit_log().await).unwrap();
        assert!(!log.contains("-password"));
    }

    async fn user_credential(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, id) = rdp(&fixture, from(CredentialSource::User), None).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let (a, b) = (fixture.launch(&ann, &id).await, fixture.launch(&bob, &id).await);
        assert_eq!(credential_parts(fixture.open_stream(&ann, a.id).await.lease.upstream().credential.as_ref()), None, "the user must be asked");
        let save = |who: Caller, new| { let (fixture, id) = (&fixture, &id); async move { fixture.broker.credentials().save(&origin(), &who, id, new).await } };
        let (saved, log) = fixture.audited_during(save(ann.clone(), typed("ann.win", "anns-password"))).await;
        saved.unwrap();
        assert_eq!(log, ["save_credential success -"]);
        assert_eq!(credential_parts(fixture.open_stream(&ann, a.id).await.lease.upstream().credential.as_ref()), Some(("ann.win".into(), String::new(), "anns-password".into())));
        assert_eq!(credential_parts(fixture.open_stream(&bob, b.id).await.lease.upstream().credential.as_ref()), None, "another's is not his");
        let saved_by = |who: Caller| { let (fixture, id) = (&fixture, &id); async move { fixture.broker.workspaces().get(&who, id).await.unwrap().upstream.unwrap().credential_saved } };
        assert!(saved_by(ann.clone()).await && !saved_by(bob.clone()).await && !saved_by(root.clone()).await);
        assert_eq!(error_kind(save(ann.clone(), typed("", "p")).await), ErrorKind::Invalid, "RDP signs in by name");
        assert_eq!(error_kind(save(ann.clone(), typed("a", "")).await), ErrorKind::Invalid);
        assert_eq!(error_kind(save(ann.clone(), typed("a\nb", "p")).await), ErrorKind::Invalid);
        assert_eq!(error_kind(save(ann.clone(), typed(&"a".repeat(257), "p")).await), ErrorKind::Invalid);
        assert_eq!(error_kind(save(ann.clone(), typed("a", &"p".repeat(513))).await), ErrorKind::Invalid);
        let nowhere = WorkspaceId::parse("ws-none").unwrap();
        assert_eq!(error_kind(fixture.broker.credentials().save(&origin(), &ann, &nowhere, typed("a", "p")).await), ErrorKind::NotFound);
        let hidden = fixture.workspace("ws-hidden", WorkspaceChange { allowed_roles: Some(vec![Role::Admin]), ..WorkspaceChange::default() }).await;
        assert_eq!(error_kind(fixture.broker.credentials().save(&origin(), &ann, &hidden, typed("a", "p")).await), ErrorKind::NotFound, "not presented, not there");
        let plain = fixture.workspace("ws-plain", WorkspaceChange::default()).await;
        assert_eq!(error_kind(fixture.broker.credentials().save(&origin(), &ann, &plain, typed("a", "p")).await), ErrorKind::Conflict);
        let (_, log) = fixture.audited_during(fixture.broker.credentials().forget(&origin(), &ann, &id)).await;
        assert_eq!(log, ["forget_credential success -"]);
        assert!(!saved_by(ann.clone()).await);
        let (again, log) = fixture.audited_during(fixture.broker.credentials().forget(&origin(), &ann, &id)).await;
        assert!(again.is_ok() && log.is_empty());
        // Not the users' any more: theirs are gone, and no other is taken.
        save(ann.clone(), typed("ann.win", "anns-password")).await.unwrap();
        fixture.broker.workspaces().update(&origin(), &root, &id, change(from(CredentialSource::Workspace))).await.unwrap();
        assert_eq!(error_kind(save(ann.clone(), typed("a", "p")).await), ErrorKind::Conflict);
        fixture.broker.workspaces().update(&origin(), &root, &id, change(from(CredentialSource::User))).await.unwrap();
        assert!(!saved_by(ann.clone()).await);
        assert!(!serde_json::to_string(&fixture.audit_log().await).unwrap().contains("anns-password"));
        let key = fixture.key(&id);
        assert!(fixture.store.read(move |tx| tx.user_credential(&key, ann.user.id)).await.unwrap().is_none());
    }

    async fn entered_credential_is_used_once(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, id) = rdp(&fixture, from(CredentialSource::Ask), None).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let session = fixture.launch(&ann, &id).await;
        let enter = |who: Caller, sid| { let fixture = &fixture; async move { fixture.broker.credentials().enter(&origin(), &who, sid, typed("ann", "typed-password")).await } };
        let has = |who: Caller| { let fixture = &fixture; async move { fixture.open_stream(&who, session.id).await.lease.upstream().credential.is_some() } };
        assert!(!has(ann.clone()).await);
        enter(ann.clone(), session.id).await.unwrap();
        let elsewhere = fixture.sign_in("ann").await.caller;
        assert!(!has(elsewhere).await, "another login's is not its");
        assert!(has(ann.clone()).await && !has(ann.clone()).await, "once");
        enter(ann.clone(), session.id).await.unwrap();
        fixture.clock.advance(Duration::from_secs(121));
        assert!(!has(ann.clone()).await, "two minutes");
        enter(ann.clone(), session.id).await.unwrap();
        fixture.broker.workspaces().update(&origin(), &root, &id, change(from(CredentialSource::User))).await.unwrap();
        assert_eq!(error_kind(enter(ann.clone(), session.id).await), ErrorKind::Conflict, "nobody asks");
        assert!(!has(ann.clone()).await);
        assert_eq!(error_kind(enter(bob, session.id).await), ErrorKind::NotFound);
        fixture.broker.sessions().disconnect(&origin(), &ann, session.id).await.unwrap();
        assert_eq!(error_kind(enter(ann, session.id).await), ErrorKind::Conflict);
        let log = fixture.audit_log().await;
        assert_eq!(log.iter().filter(|e| entry_summary(e) == "enter_credential success -").count(), 3);
        assert!(!serde_json::to_string(&log).unwrap().contains("typed-password"));
    }

    async fn other_certificate_is_refused_until_accepted(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, id) = rdp(&fixture, UpstreamChange::default(), Some("p")).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &id).await;
        let grant = fixture.open_stream(&ann, session.id).await;
        let meet = |n| { let (fixture, lease, ann) = (&fixture, &grant.lease, &ann); async move { fixture.broker.certificates().check(&origin(), lease, Some(ann), &presented(n)).await.unwrap() } };
        assert_eq!(fixture.audited_during(meet(1)).await, (CertificateCheck::Trusted, vec!["pin_certificate success recorded".to_owned()]));
        assert_eq!(fixture.audited_during(meet(1)).await, (CertificateCheck::Trusted, vec![]));
        assert_eq!(fixture.audited_during(meet(2)).await, (CertificateCheck::Refused, vec!["certificate_refused denied changed".to_owned()]));
        assert_eq!(fixture.open_stream(&ann, session.id).await.lease.upstream().trust.pin, Some(Fingerprint([1; 32])));
        let managed = fixture.broker.workspaces().get(&root, &id).await.unwrap().upstream.unwrap().managed.unwrap();
        assert_eq!(managed.state.pinned.map(|(pin, _)| pin), Some(Fingerprint([1; 32])));
        let offered = managed.state.offered.unwrap();
        assert_eq!((offered.fingerprint, offered.subject.as_str()), (Fingerprint([2; 32]), "CN=server-2"));
        let accept = |who: Caller, n: u8| { let (fixture, id) = (&fixture, &id); async move { fixture.broker.certificates().accept(&origin(), &who, id, Fingerprint([n; 32])).await } };
        assert_eq!(error_kind(accept(ann.clone(), 2).await), ErrorKind::Forbidden);
        assert_eq!(error_kind(accept(root.clone(), 3).await), ErrorKind::Conflict, "not the one that was shown");
        assert_eq!(error_kind(accept(root.clone(), 1).await), ErrorKind::Conflict);
        assert_eq!(error_kind(fixture.broker.certificates().accept(&origin(), &root, &WorkspaceId::parse("ws-no").unwrap(), Fingerprint([0xab; 32])).await), ErrorKind::NotFound);
        assert_eq!(fixture.audited_during(accept(root.clone(), 2)).await.1, ["pin_certificate success accepted"]);
        assert_eq!((meet(2).await, meet(1).await), (CertificateCheck::Trusted, CertificateCheck::Refused));
        // A fixed fingerprint moves with an acceptance; authorities do not.
        let rule = |trust| change(UpstreamChange { trust: Some(trust), ..UpstreamChange::default() });
        fixture.broker.workspaces().update(&origin(), &root, &id, rule(TrustRule::Pinned(Fingerprint([5; 32])))).await.unwrap();
        let grant = fixture.open_stream(&ann, session.id).await;
        let (_, log) = fixture.audited_during(fixture.broker.certificates().refuse(&origin(), &grant.lease, Some(&ann), &presented(6), "not_pinned")).await;
        assert_eq!(log, ["certificate_refused denied not_pinned"]);
        accept(root.clone(), 6).await.unwrap();
        assert_eq!(fixture.open_stream(&ann, session.id).await.lease.upstream().trust.rule, TrustRule::Pinned(Fingerprint([6; 32])));
        let roots = rcgen::generate_simple_self_signed(vec!["ca".into()]).unwrap().cert.pem();
        let authority = TrustRule::Authority { roots, name: Some("desk.example".into()) };
        fixture.broker.workspaces().update(&origin(), &root, &id, rule(authority)).await.unwrap();
        fixture.broker.certificates().refuse(&origin(), &grant.lease, None, &presented(7), "untrusted").await.unwrap();
        assert_eq!(error_kind(accept(root, 7).await), ErrorKind::Conflict);
        fixture.assert_chain_valid().await;
    }

    async fn new_target_ends_sessions_and_keeps_no_secrets(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, id) = rdp(&fixture, from(CredentialSource::User), None).await;
        let ann = fixture.caller("ann", Role::Member).await;
        fixture.broker.credentials().save(&origin(), &ann, &id, typed("ann", "for-the-old-one")).await.unwrap();
        let session = fixture.launch(&ann, &id).await;
        let mut grant = fixture.open_stream(&ann, session.id).await;
        fixture.broker.certificates().check(&origin(), &grant.lease, Some(&ann), &presented(1)).await.unwrap();
        let elsewhere = WorkspaceChange { target: service(fixture.host, "other"), ..WorkspaceChange::default() };
        fixture.broker.workspaces().update(&origin(), &root, &id, elsewhere).await.unwrap();
        assert_eq!(wait_revoked(&mut grant).await, StreamAuthorization::SessionEnded(EndReason::AdminStopped));
        assert_eq!(fixture.stored_session(session.id).await.state, State::Closed(EndReason::AdminStopped));
        // Too late: what the old server shows is not pinned for the new one.
        assert_eq!(fixture.broker.certificates().check(&origin(), &grant.lease, Some(&ann), &presented(1)).await.unwrap(), CertificateCheck::Refused);
        let server = fixture.broker.workspaces().get(&root, &id).await.unwrap().upstream.unwrap();
        assert_eq!((server.credential_saved, server.managed.unwrap().state.pinned), (false, None));
        let next = fixture.launch(&ann, &id).await;
        let grant = fixture.open_stream(&ann, next.id).await;
        assert_eq!((credential_parts(grant.lease.upstream().credential.as_ref()), grant.lease.upstream().trust.pin), (None, None));
        // The workspace's own password does not follow either.
        fixture.broker.workspaces().update(&origin(), &root, &id, change(from(CredentialSource::Workspace))).await.unwrap();
        let own = WorkspaceChange { password: Some(secret("own")), ..WorkspaceChange::default() };
        fixture.broker.workspaces().update(&origin(), &root, &id, own).await.unwrap();
        let back = WorkspaceChange { target: service(fixture.host, "xrdp"), ..WorkspaceChange::default() };
        assert!(!fixture.broker.workspaces().update(&origin(), &root, &id, back).await.unwrap().upstream.unwrap().credential_saved);
    }

    async fn policy_change_revokes_streams_only(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, id) = rdp(&fixture, UpstreamChange::default(), Some("p")).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let other = fixture.workspace("ws-other", WorkspaceChange::default()).await;
        let (session, apart) = (fixture.launch(&ann, &id).await, fixture.launch(&ann, &other).await);
        let (mut grant, unaffected) = (fixture.open_stream(&ann, session.id).await, fixture.open_stream(&ann, apart.id).await);
        let rename = WorkspaceChange { name: Some("Else".into()), ..WorkspaceChange::default() };
        fixture.broker.workspaces().update(&origin(), &root, &id, rename).await.unwrap();
        assert_eq!(*grant.authorization.borrow(), StreamAuthorization::Valid);
        let policy = PolicyChange { clipboard: Some(Clipboard::Out), read_only: Some(true), ..PolicyChange::default() };
        let (_, log) = fixture.audited_during(fixture.broker.workspaces().update(&origin(), &root, &id, WorkspaceChange { policy, ..WorkspaceChange::default() })).await;
        assert_eq!(log, ["update_workspace success -"]);
        assert_eq!(wait_revoked(&mut grant).await, StreamAuthorization::PolicyChanged);
        assert_eq!(fixture.stored_session(session.id).await.state, State::Active);
        let expected = StreamPolicy { clipboard: Clipboard::Out, files: false, read_only: true };
        let mut again = fixture.open_stream(&ann, session.id).await;
        assert_eq!(again.lease.upstream().policy, expected);
        assert_eq!(fixture.broker.sessions().get(&ann, session.id).await.unwrap().policy, Some(expected));
        // By another process, the command line, too.
        let (second_process, _) = fixture.second_process(settings());
        let (broker, (stop, stopped)) = (fixture.broker.clone(), tokio::sync::watch::channel(false));
        let maintained = tokio::spawn(async move { broker.lifecycle().maintain(stopped).await });
        let policy = PolicyChange { files: Some(true), ..PolicyChange::default() };
        second_process.workspaces().update(&origin(), &fixture.system, &id, WorkspaceChange { policy, ..WorkspaceChange::default() }).await.unwrap();
        let right = tokio::time::timeout(Duration::from_secs(20), again.authorization.wait_for(|right| *right != StreamAuthorization::Valid)).await;
        assert_eq!(*right.expect("the sentinel looks").unwrap(), StreamAuthorization::PolicyChanged);
        assert_eq!(*unaffected.authorization.borrow(), StreamAuthorization::Valid, "another workspace's goes on");
        stop.send(true).unwrap();
        maintained.await.unwrap();
        assert!(fixture.open_stream(&ann, session.id).await.lease.upstream().policy.files);
    }

    async fn refused_transfers_are_audited(db) {
        let fixture = BrokerFixture::new(&db).await;
        let terms = UpstreamChange { username: Some("svc".into()), ..UpstreamChange::default() };
        let (_, id) = rdp(&fixture, terms, Some("the-password")).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &id).await;
        let lease = fixture.open_stream(&ann, session.id).await.lease;
        let refused = TransferRefusal { channel: "clipboard", direction: "in", bytes: u64::MAX, count: 3 };
        fixture.broker.stream_events().login_refused(&origin(), &lease, Some(&ann), "wrong_password").await.unwrap();
        fixture.broker.stream_events().transfer_refused(&origin(), &lease, Some(&ann), &refused).await.unwrap();
        fixture.broker.stream_events().destination_refused(&origin(), &lease, None, &format!("evil\r\n{}", "x".repeat(9999))).await.unwrap();
        let log = fixture.audit_log().await;
        let last: Vec<_> = log.iter().rev().take(3).rev().collect();
        assert_eq!(last.iter().map(|e| entry_summary(e)).collect::<Vec<_>>(), ["login_refused denied wrong_password", "transfer_refused denied policy", "destination_refused denied not_the_sessions"]);
        for entry in &last {
            assert_eq!((entry.session_id.as_deref(), entry.workspace_id.as_deref()), (Some(session.id.to_string().as_str()), Some("ws-win")));
        }
        assert_eq!((&last[0].details["source"], &last[0].details["username"]), (&"workspace".into(), &"svc".into()));
        assert_eq!((&last[1].details["channel"], &last[1].details["count"], &last[1].details["bytes"]), (&"clipboard".into(), &3.into(), &((1_u64 << 53) - 1).into()));
        let asked = last[2].details["asked"].as_str().unwrap();
        assert!(asked.len() <= 200 && asked.starts_with("evil  x") && last[2].actor.role.as_deref() == Some("system"));
        assert!(!serde_json::to_string(&log).unwrap().contains("the-password"));
        fixture.assert_chain_valid().await;
    }

    async fn invalid_combinations_are_rejected(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, id) = rdp(&fixture, UpstreamChange::default(), Some("p")).await;
        let server = UpstreamChange::default;
        let pem = rcgen::generate_simple_self_signed(vec!["ca".into()]).unwrap().cert.pem();
        let authority = |roots: String, name: Option<&str>| UpstreamChange { trust: Some(TrustRule::Authority { roots, name: name.map(Into::into) }), ..server() };
        for (why, wrong) in [
            ("a name of more than a line", UpstreamChange { username: Some("a\nb".into()), ..server() }),
            ("a long name", UpstreamChange { username: Some("a".repeat(257)), ..server() }),
            ("a long domain", UpstreamChange { domain: Some("a".repeat(257)), ..server() }),
            ("exclusive is RFB's", UpstreamChange { exclusive: Some(true), ..server() }),
            ("a user's credential has no name here", UpstreamChange { username: Some("x".into()), ..from(CredentialSource::User) }),
            ("no PEM", authority("nonsense".into(), None)),
            ("nothing in it", authority(String::new(), None)),
            ("too many", authority(pem.repeat(17), None)),
            ("too long", authority("x".repeat(40_000), None)),
            ("no name", authority(pem.clone(), Some("not a name"))),
        ] {
            assert_eq!(error_kind(fixture.broker.workspaces().update(&origin(), &root, &id, change(wrong)).await), ErrorKind::Invalid, "{why}");
        }
        fixture.broker.workspaces().update(&origin(), &root, &id, change(authority(pem, Some("desk.example")))).await.unwrap();
        let linux = fixture.workspace("ws-linux", WorkspaceChange::default()).await;
        for wrong in [from(CredentialSource::Ask), UpstreamChange { exclusive: Some(true), ..server() }, UpstreamChange { keyboard: Some(Some(1)), ..server() }] {
            assert_eq!(error_kind(fixture.broker.workspaces().update(&origin(), &root, &linux, change(wrong)).await), ErrorKind::Invalid);
        }
        let vnc = NewWorkspace { id: None, ..new_workspace(WorkspaceKind::Vnc, service(fixture.host, "x")) };
        for wrong in [UpstreamChange { domain: Some("D".into()), ..server() }, UpstreamChange { keyboard: Some(Some(1)), ..server() }] {
            assert_eq!(error_kind(fixture.broker.workspaces().create(&origin(), &root, with(vnc.clone(), wrong, None)).await), ErrorKind::Invalid);
        }
        fixture.broker.workspaces().create(&origin(), &root, with(vnc, UpstreamChange { exclusive: Some(true), ..server() }, None)).await.unwrap();
        let ann = fixture.caller("ann", Role::Member).await;
        assert_eq!(error_kind(fixture.broker.workspaces().update(&origin(), &ann, &id, change(server())).await), ErrorKind::Forbidden);
        let session = fixture.launch(&ann, &id).await;
        assert!(fixture.broker.streams().open(&origin(), session.id, StreamProof::Principal(&ann)).await.is_ok());
    }
}
