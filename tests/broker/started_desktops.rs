//! Desktops that a host's agent starts: what is their own, and what only they have.

use super::fixture::{BrokerFixture, error_kind, origin};
use super::servers::{credential_parts, from, new_workspace, service, with};
use portcullis::broker::model::{UpstreamChange, WorkspaceChange};
use portcullis::domain::ErrorKind;
use portcullis::domain::upstream::{CredentialSource, Fingerprint, ProtocolSettings, TrustRule};
use portcullis::domain::user::Role;
use portcullis::domain::workspace::WorkspaceKind;

on_both! {
    async fn only_a_started_desktop_has_a_network(db) {
        let fixture = BrokerFixture::new(&db).await;
        let root = fixture.caller("root", Role::Admin).await;
        let network = |on| WorkspaceChange { network: Some(on), ..WorkspaceChange::default() };
        for kind in [WorkspaceKind::Vnc, WorkspaceKind::Rdp, WorkspaceKind::Html5] {
            let mut new = new_workspace(kind, service(fixture.host, "desk"));
            new.properties.network = Some(true);
            let refused = fixture.broker.workspaces().create(&origin(), &root, new).await.unwrap_err();
            assert!(refused.kind == ErrorKind::Invalid && refused.message.starts_with("network is for"), "{refused}");
        }
        let mut new = new_workspace(WorkspaceKind::Rdp, None);
        new.properties.network = Some(true);
        let made = fixture.broker.workspaces().create(&origin(), &root, new).await.unwrap().workspace;
        assert!(made.network);
        // One that names a server from now on has none any more.
        let moved = WorkspaceChange { target: service(fixture.host, "desk"), ..WorkspaceChange::default() };
        let moved = fixture.broker.workspaces().update(&origin(), &root, &made.id, moved).await.unwrap();
        assert!(!moved.workspace.network && moved.target().is_some());
        let entry = fixture.audit_log().await.into_iter().rfind(|entry| entry.action == "update_workspace").unwrap();
        assert_eq!(entry.details["changed"], "target,network");
        assert_eq!(error_kind(fixture.broker.workspaces().update(&origin(), &root, &made.id, network(true)).await), ErrorKind::Invalid);
        assert!(fixture.broker.workspaces().update(&origin(), &root, &made.id, network(false)).await.is_ok());
    }

    async fn started_desktop_has_own_credential_and_certificate(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        for wrong in [
            from(CredentialSource::User),
            UpstreamChange { username: Some("x".into()), ..UpstreamChange::default() },
            UpstreamChange { trust: Some(TrustRule::Pinned(Fingerprint([1; 32]))), ..UpstreamChange::default() },
        ] {
            assert_eq!(error_kind(fixture.broker.workspaces().create(&origin(), &root, with(new_workspace(WorkspaceKind::Rdp, None), wrong, None)).await), ErrorKind::Invalid);
        }
        let password = with(new_workspace(WorkspaceKind::Rdp, None), UpstreamChange::default(), Some("p"));
        assert_eq!(error_kind(fixture.broker.workspaces().create(&origin(), &root, password).await), ErrorKind::Invalid);
        let keyboard = UpstreamChange { keyboard: Some(Some(0x40c)), ..UpstreamChange::default() };
        let made = fixture.broker.workspaces().create(&origin(), &root, with(new_workspace(WorkspaceKind::Rdp, None), keyboard, None)).await.unwrap();
        let id = made.workspace.id;
        // One that names no certificate could not be credential_parts from another.
        let (answer, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &id)).await;
        assert_eq!(error_kind(answer), ErrorKind::Unavailable);
        assert!(log.contains(&"launch_workspace error failed".to_owned()), "{log:?}");
        fixture.assert_empty().await;
        fixture.fleet.set_certificate(Some(Fingerprint([9; 32])));
        let session = fixture.launch(&ann, &id).await;
        let grant = fixture.open_stream(&ann, session.id).await;
        let server = grant.lease.upstream();
        assert_eq!(credential_parts(server.credential.as_ref()), Some(("user".into(), String::new(), format!("vnc-{}", session.id))));
        assert_eq!((&server.trust.rule, &server.protocol), (&TrustRule::Pinned(Fingerprint([9; 32])), &ProtocolSettings::Rdp { keyboard_layout: Some(0x40c) }));
        assert!(fixture.broker.workspaces().get(&ann, &id).await.unwrap().upstream.unwrap().credential_saved);
        // A linux desktop has none to check.
        let linux = fixture.workspace("ws-linux", WorkspaceChange::default()).await;
        assert!(fixture.broker.workspaces().get(&root, &linux).await.unwrap().upstream.is_none());
        let desk = fixture.launch(&ann, &linux).await;
        let grant = fixture.open_stream(&ann, desk.id).await;
        assert_eq!((credential_parts(grant.lease.upstream().credential.as_ref()).unwrap().0, &grant.lease.upstream().trust.rule), (String::new(), &TrustRule::FirstUse));
    }
}
