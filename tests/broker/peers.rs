//! Standard peers as hosts, workspaces that name a server on them, and direct targets: what is
//! decided and written down, without a tunnel.

use super::fixture::{BrokerFixture, error_kind, origin};
use portcullis::broker::model::{NewPeer, NewWorkspace, WorkspaceChange};
use portcullis::domain::host::HostKind;
use portcullis::domain::route::{SessionRoute, TargetSpec};
use portcullis::domain::secret::SecretString;
use portcullis::domain::session::{EndReason, State};
use portcullis::domain::user::Role;
use portcullis::domain::workspace::{WorkspaceKind, WorkspaceStatus};
use portcullis::domain::{ErrorKind, HostId, WorkspaceId};

fn peer_key() -> String {
    portcullis::tunnel::PrivateKey::generate().unwrap().public_key().to_string()
}

fn new_peer(name: &str) -> NewPeer {
    NewPeer { name: name.into(), public_key: peer_key(), endpoint: None, address: None }
}

fn new_workspace(id: &str, target: Option<TargetSpec>, password: Option<&str>) -> NewWorkspace {
    let rest = WorkspaceChange {
        target,
        password: password.map(|p| SecretString::new(p.into())),
        requires_mfa: Some(false),
        ..WorkspaceChange::default()
    };
    NewWorkspace {
        id: Some(WorkspaceId::parse(id).unwrap()),
        name: id.into(),
        description: String::new(),
        kind: WorkspaceKind::Vnc,
        properties: rest,
    }
}

on_both! {
    async fn peer_is_added_and_its_config_shown(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        let add = |peer| async { fixture.broker.peers().add(&origin(), &root, peer).await };
        let one = add(new_peer("rack 7")).await.unwrap().host;
        assert_eq!((one.kind, one.version.as_str(), one.last_seen_at), (HostKind::Peer, "", None));
        let psk = fixture.fleet.host_key(one.id).expect("its tunnel is there");
        let two = add(NewPeer { address: Some("192.0.2.9".parse().unwrap()), ..new_peer("two") }).await.unwrap().host;
        assert_eq!(two.address.to_string(), "192.0.2.9");

        let three = add(NewPeer { address: Some("2001:db8::9".parse().unwrap()), ..new_peer("three") }).await.unwrap().host;
        assert_eq!(three.address.to_string(), "2001:db8::9");

        // Nor the address at which the gateway itself listens.
        let own: std::net::SocketAddr = "192.0.2.77:51820".parse().unwrap();
        fixture.fleet.listen_at(own);
        // Nobody else's key, no address of a session's, no nonsense.
        let again = NewPeer { public_key: one.public_key.clone(), ..new_peer("again") };
        assert_eq!(error_kind(add(again).await), ErrorKind::Conflict);
        assert_eq!(error_kind(add(NewPeer { address: Some(two.address), ..new_peer("same") }).await), ErrorKind::Conflict);
        for address in ["10.64.0.1", "10.127.0.1", "0.0.0.0", "127.0.0.1", "224.0.0.1", "10.63.0.1", "::", "::1", "ff02::1", "fe80::1", "::ffff:192.0.2.9", "255.255.255.255", "240.0.0.1", "169.254.1.1", "0.1.2.3"] {
            assert_eq!(error_kind(add(NewPeer { address: Some(address.parse().unwrap()), ..new_peer("x") }).await), ErrorKind::Invalid, "{address}");
        }
        for endpoint in [
            "192.0.2.1:0", "0.0.0.0:5", "[::]:5", "224.0.0.1:5", "255.255.255.255:9", "240.0.0.1:5", "127.0.0.1:22", "127.9.9.9:5", "[::1]:5",
            "[::ffff:127.0.0.1]:5", "[::127.0.0.1]:5", "169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[fe80::1]:5", "[ff02::1]:5",
            "[::ffff:255.255.255.255]:5", &own.to_string(),
        ] {
            assert_eq!(error_kind(add(NewPeer { endpoint: Some(endpoint.parse().unwrap()), ..new_peer("x") }).await), ErrorKind::Invalid, "{endpoint}");
        }
        // The same address at another port, or written as an IPv6 address, is what it is.
        for (endpoint, stored) in [("192.0.2.77:51999", "192.0.2.77:51999"), ("[::ffff:192.0.2.8]:5", "192.0.2.8:5")] {
            let host = add(NewPeer { endpoint: Some(endpoint.parse().unwrap()), ..new_peer(endpoint) }).await.unwrap().host;
            assert_eq!(host.endpoint, Some(stored.parse().unwrap()));
        }
        assert_eq!(error_kind(add(NewPeer { public_key: "AAAA".into(), ..new_peer("x") }).await), ErrorKind::Invalid);
        assert_eq!(error_kind(fixture.broker.peers().add(&origin(), &ann, new_peer("x")).await), ErrorKind::Forbidden);

        let (config, log) = fixture.audited_during(fixture.broker.peers().config(&origin(), &root, one.id)).await;
        let config = config.unwrap();
        assert_eq!(log, ["show_host_config success -"]);
        use base64::Engine as _;
        let psk = base64::engine::general_purpose::STANDARD.encode(psk);
        assert!(config.expose().contains(&format!("PresharedKey = {psk}\n")) && config.expose().contains("AllowedIPs = 10.64.0.1/32\n"));
        assert_eq!(error_kind(fixture.broker.peers().config(&origin(), &ann, one.id).await), ErrorKind::Forbidden);
        assert_eq!(error_kind(fixture.broker.peers().config(&origin(), &root, HostId::new()).await), ErrorKind::NotFound);
        let text = serde_json::to_string(&fixture.audit_log().await).unwrap();
        assert!(!text.contains(&psk));
    }

    async fn sessions_of_one_peer_share_its_address(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann, bob) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        let peer = fixture.broker.peers().add(&origin(), &root, new_peer("rack")).await.unwrap().host;
        let on = |port| Some(TargetSpec::Host { host_id: peer.id, port });
        let create = |new| async { fixture.broker.workspaces().create(&origin(), &root, new).await };
        let made = create(new_workspace("ws-a", on(5901), Some("pass-a"))).await.unwrap();
        assert_eq!((made.status, made.workspace.single_seat), (WorkspaceStatus::Offline, true));
        create(new_workspace("ws-b", on(5902), None)).await.unwrap();
        // Only a vnc workspace, only a port, only a standard peer of ours.
        assert_eq!(error_kind(create(NewWorkspace { kind: WorkspaceKind::Linux, ..new_workspace("ws-x", on(1), None) }).await), ErrorKind::Invalid);
        assert_eq!(error_kind(create(new_workspace("ws-x", on(0), None)).await), ErrorKind::Invalid);
        let with_password = NewWorkspace { kind: WorkspaceKind::Linux, ..new_workspace("ws-x", None, Some("p")) };
        assert_eq!(error_kind(create(with_password).await), ErrorKind::Invalid);
        let nobody = Some(TargetSpec::Host { host_id: HostId::new(), port: 1 });
        assert_eq!(error_kind(create(new_workspace("ws-x", nobody, None)).await), ErrorKind::Invalid);

        let (a, b) = (WorkspaceId::parse("ws-a").unwrap(), WorkspaceId::parse("ws-b").unwrap());
        let (answer, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &a)).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Unavailable, vec!["launch_workspace error host_not_connected".to_owned()]));
        fixture.fleet.connect(peer.id);
        let (one, two) = (fixture.launch(&ann, &a).await, fixture.launch(&bob, &b).await);
        for session in [&one, &two] {
            assert_eq!((&session.route, session.host_id, session.address), (&SessionRoute::HostTunnel, Some(peer.id), peer.address));
        }
        assert_eq!((fixture.fleet.wanted(one.id), fixture.fleet.wanted(two.id)), (Some("5901".to_owned()), Some("5902".to_owned())));
        for (who, session, password) in [(&ann, &one, "pass-a"), (&bob, &two, "")] {
            let grant = fixture.open_stream(who, session.id).await;
            assert_eq!(grant.lease.upstream().credential.as_ref().unwrap().password.expose(), password, "the workspace's");
        }
        assert_eq!(fixture.broker.workspaces().get(&ann, &a).await.unwrap().target(), None, "where it is, is not for members");
        assert_eq!(fixture.broker.workspaces().get(&root, &a).await.unwrap().target(), on(5901).as_ref());

        // The reaper asks no peer for desktops, and so takes none for lost.
        fixture.fleet.lose_desktop(one.id);
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(fixture.stored_session(one.id).await.state, State::Active);
        // A removed peer takes its sessions along.
        fixture.broker.hosts().remove(&origin(), &root, peer.id).await.unwrap();
        assert_eq!(fixture.stored_session(one.id).await.state.end_reason(), Some(EndReason::HostLost));
        let text = serde_json::to_string(&fixture.audit_log().await).unwrap();
        assert!(!text.contains("pass-a"));
    }

    async fn desktops_are_not_placed_on_peers(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        fixture.fleet.disconnect(fixture.host);
        let peer = fixture.broker.peers().add(&origin(), &root, new_peer("rack")).await.unwrap().host;
        fixture.fleet.connect(peer.id);
        let id = fixture.workspace("ws-desk", WorkspaceChange::default()).await;
        assert_eq!(fixture.broker.workspaces().get(&ann, &id).await.unwrap().status, WorkspaceStatus::Offline);
        assert_eq!(error_kind(fixture.broker.launcher().launch(&origin(), &ann, &id).await), ErrorKind::Unavailable);
    }

    async fn direct_target_must_be_allowed_by_configuration(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        let direct = |name: &str| Some(TargetSpec::Direct { name: name.into() });
        let create = |new| async { fixture.broker.workspaces().create(&origin(), &root, new).await };
        for bad in ["", "Old Box", "192.0.2.1:5900", "a/b"] {
            assert_eq!(error_kind(create(new_workspace("ws-x", direct(bad), None)).await), ErrorKind::Invalid, "{bad}");
        }
        create(new_workspace("ws-old", direct("old-box"), None)).await.unwrap();
        let id = WorkspaceId::parse("ws-old").unwrap();
        let (answer, log) = fixture.audited_during(fixture.broker.launcher().launch(&origin(), &ann, &id)).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Unavailable, vec!["launch_workspace error target_not_allowed".to_owned()]));
        fixture.fleet.allow_direct("old-box", "192.0.2.77");
        assert_eq!(fixture.broker.workspaces().get(&ann, &id).await.unwrap().status, WorkspaceStatus::Available);
        let session = fixture.launch(&ann, &id).await;
        assert_eq!((&session.route, session.address.to_string()), (&SessionRoute::Direct("old-box".into()), "192.0.2.77".to_owned()));
        assert_eq!((session.host_id, session.peer_public_key), (None, None));
        let stored = fixture.stored_session(session.id).await;
        assert_eq!((stored.route, stored.peer_public_key), (session.route, None));
        // No host of it can be lost, and it ends like any other.
        fixture.broker.lifecycle().reconcile_once().await.unwrap();
        assert_eq!(fixture.stored_session(session.id).await.state, State::Active);
        fixture.broker.sessions().disconnect(&origin(), &ann, session.id).await.unwrap();
        assert!(fixture.fleet.was_cut(session.id));
        assert_eq!(fixture.stored_session(session.id).await.state, State::Closed(EndReason::UserDisconnected));
    }
}
