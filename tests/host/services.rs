//! Sessions on services of a host, and RDP desktops, through tunnels of their own.

use super::gateway_harness::*;
use super::harness::{TIMEOUT, processes_with_mark};
use crate::support::wait::eventually;
use portcullis::broker::model::HostSlots;
use portcullis::broker::ports::host_fleet::{FleetError, HostFleet};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::host::agent::AgentConfig;
use portcullis::host::control::{self, ClientError, Order, OrderTunnel};
use portcullis::host::desktop::Limits;
use portcullis::tunnel::{PresharedKey, Tunnel};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_reaches_the_service_it_was_given_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [at, secret_at, gone_at] = [&server, &secret, &gone].map(|l| l.local_addr().unwrap());
    drop(gone);
    // Echoes its input reversed, so that its answer can be recognized.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            tokio::spawn(async move {
                let mut input = [0; 5];
                while stream.read_exact(&mut input).await.is_ok() {
                    input.reverse();
                    let _ = stream.write_all(&input).await;
                }
            });
        }
    });
    let mut state = gateway_state();
    let gateway = start_gateway(&mut state).await;
    let config = AgentConfig {
        gateway_silence: Duration::from_secs(6),
        services: [("pc".to_owned(), at.to_string()), ("gone".to_owned(), gone_at.to_string())]
            .into(),
        ..AgentConfig::new(dir.path().join("s"))
    };
    let agent = start_enrolled_agent_with(&mut state, &gateway, config).await;
    let host = state.host.id;
    wait_until_connected(&gateway, host).await;
    let mut client = control_client(&gateway, host).await;

    let health = client.health().await.unwrap();
    let seen: Vec<_> = health.services.iter().map(|s| (s.name.as_str(), s.reachable)).collect();
    assert_eq!(
        (seen, health.kinds),
        (vec![("gone", false), ("pc", true)], vec![WorkspaceKind::Linux, WorkspaceKind::Rdp])
    );

    // Every other name is refused with the same text, whether a name, an address or garbage.
    let psk = PresharedKey::generate().unwrap();
    let mut details = Vec::new();
    for name in ["other", "", &secret_at.to_string(), "pc ", "PC", &"x".repeat(5000)] {
        match client.start(&service_order(name, WorkspaceKind::Rdp, &psk)).await {
            Err(ClientError::Refused { status: 422, detail }) => details.push(detail),
            other => panic!("{name}: {other:?}"),
        }
    }
    details.dedup();
    assert_eq!(details, ["this host lets no session reach a service of that name"]);
    assert!(client.desktops().await.unwrap().is_empty());

    let order = service_order("pc", WorkspaceKind::Rdp, &psk);
    let session = order.session_id;
    let started = client.start(&order).await.unwrap();
    assert_eq!(
        (started.port, started.password.expose().as_str(), &started.certificate),
        (3389, "", &None)
    );
    let again = client.start(&order).await.unwrap();
    assert_eq!(again.public_key, started.public_key, "asked again: the same");
    let mut moved = service_order("gone", WorkspaceKind::Rdp, &psk);
    (moved.session_id, moved.user_id) = (session, order.user_id);
    assert!(
        matches!(client.start(&moved).await, Err(ClientError::Refused { status: 422, .. })),
        "a session stays where it is"
    );
    let listed = client.desktops().await.unwrap();
    assert_eq!((listed.len(), listed[0].session_id, listed[0].ready), (1, session, true));

    let tunnel = open_session_tunnel(&gateway, &state, &order, &started, psk.clone()).await;
    let mut stream = tunnel.connect(started.port).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut input = [0; 5];
    tokio::time::timeout(TIMEOUT, stream.read_exact(&mut input)).await.unwrap().unwrap();
    assert_eq!(&input, b"olleh");
    for port in [5900, at.port(), secret_at.port(), control::PORT] {
        assert!(tunnel.connect(port).await.is_err(), "port {port}");
    }

    // A service that does not answer: the session exists, its stream ends at once.
    let elsewhere = Order {
        tunnel: OrderTunnel { host_address: "10.64.0.10".parse().unwrap(), ..order_tunnel(&psk) },
        ..service_order("gone", WorkspaceKind::Vnc, &psk)
    };
    let silent = client.start(&elsewhere).await.unwrap();
    assert_eq!(silent.port, 5900);
    let silent_tunnel =
        open_session_tunnel(&gateway, &state, &elsewhere, &silent, psk.clone()).await;
    if let Ok(mut stream) = silent_tunnel.connect(silent.port).await {
        let ended = tokio::time::timeout(TIMEOUT, stream.read(&mut input)).await.unwrap();
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    }

    // Ended: neither its stream nor the session remains; the other session ends with its grace.
    client.stop(session).await.unwrap();
    let ended = tokio::time::timeout(TIMEOUT, stream.read(&mut input)).await.unwrap();
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    assert_eq!(client.desktops().await.unwrap().len(), 1);
    drop(client);
    // The fleet polls for changes; without it the gateway is silent.
    gateway.fleet.remove_host(host);
    let watched = Instant::now();
    wait_until_closed(&silent_tunnel).await;
    println!("a session on a service with 1 s of grace ended after {:?}", watched.elapsed());
    agent.stop().await;
}

/// Waits until a session's tunnel refuses connections.
async fn wait_until_closed(tunnel: &Tunnel) {
    eventually("the session's tunnel refuses connections", async || {
        let connection = tokio::time::timeout(Duration::from_secs(5), tunnel.connect(5900)).await;
        !connection.is_ok_and(|stream| stream.is_ok())
    })
    .await;
}

fn order_tunnel(psk: &PresharedKey) -> OrderTunnel {
    service_order("x", WorkspaceKind::Rdp, psk).tunnel
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rdp_desktop_proves_itself_through_its_own_tunnel() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = gateway_state();
    let gateway = start_gateway(&mut state).await;
    let agent = start_enrolled_agent(&mut state, &gateway, &dir.path().join("s")).await;
    let host = state.host.id;
    wait_until_connected(&gateway, host).await;
    let mut client = control_client(&gateway, host).await;
    let psk = PresharedKey::generate().unwrap();
    let mut order = service_order("", WorkspaceKind::Rdp, &psk);
    let mark = format!("mark-{}", order.session_id);
    (order.workspace.service, order.workspace.name, order.grace_seconds) =
        (None, mark.clone(), 600);
    let begun = Instant::now();
    let started = client.start(&order).await.unwrap();
    assert_eq!(started.port, 3389);
    let tunnel = open_session_tunnel(&gateway, &state, &order, &started, psk).await;
    let shown = super::rdp::certificate(tunnel.connect(started.port).await.unwrap()).await;
    println!("an RDP desktop through tunnels: its certificate after {:?}", begun.elapsed());
    assert_eq!(Some(shown), started.certificate);
    assert!(tunnel.connect(5900).await.is_err());
    assert!(!processes_with_mark(&mark).is_empty());
    client.stop(order.session_id).await.unwrap();
    assert_eq!(processes_with_mark(&mark), Vec::<u32>::new());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_and_desktops_have_places_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut state = gateway_state();
    let gateway = start_gateway(&mut state).await;
    let config = AgentConfig {
        services: [("pc".to_owned(), server.local_addr().unwrap().to_string())].into(),
        limits: Limits { desktops: 1, services: 2, ..Limits::default() },
        ..AgentConfig::new(dir.path().join("s"))
    };
    let agent = start_enrolled_agent_with(&mut state, &gateway, config).await;
    let host = state.host.id;
    wait_until_connected(&gateway, host).await;
    let mut client = control_client(&gateway, host).await;
    let slots = client.health().await.unwrap().slots;
    assert_eq!(slots, Some(control::Slots { desktops: 1, services: 2 }));
    eventually("the gateway knows its places", async || {
        let offers = gateway.fleet.capabilities(host);
        offers.is_some_and(|offers| offers.slots == Some(HostSlots { desktops: 1, services: 2 }))
    })
    .await;
    let psk = PresharedKey::generate().unwrap();
    for _ in 0..2 {
        client.start(&service_order("pc", WorkspaceKind::Rdp, &psk)).await.unwrap();
    }
    match client.start(&service_order("pc", WorkspaceKind::Rdp, &psk)).await {
        Err(ClientError::Refused { status: control::FULL, detail }) => {
            assert_eq!(detail, "this host takes 2 sessions on its services and no more");
        }
        other => panic!("{other:?}"),
    }
    // The desktop's place is free all the same.
    let (desktop, _) = order(Duration::from_secs(1));
    gateway.fleet.start(Some(host), desktop).await.unwrap();
    let (desktop, _) = order(Duration::from_secs(1));
    let refused = gateway.fleet.start(Some(host), desktop).await.unwrap_err();
    assert!(matches!(refused, FleetError::Full(_)), "{refused}");
    drop(client);
    agent.stop().await;
}
