//! A gateway's fleet, an agent and real desktops, through real tunnels.

use super::gateway_harness::*;
use super::harness::{TIMEOUT, display_server, processes_with_mark, wait_until};
use crate::support::wait::eventually;
use portcullis::broker::model::TunnelState;
use portcullis::broker::ports::host_fleet::{DesktopOrder, FleetError, HostFleet, SessionPeer};
use portcullis::domain::HostId;
use portcullis::domain::secret::SecretBytes;
use portcullis::domain::workspace::Workspace;
use portcullis::host::agent::{AgentConfig, AgentError, run};
use portcullis::tunnel::TunnelId;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const GRACE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn a_desktop_survives_a_gateway_restart_until_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = gateway_state();
    let first = start_gateway(&mut state).await;
    let agent = start_enrolled_agent(&mut state, &first, &dir.path().join("s")).await;
    let host = state.host.id;
    wait_until_connected(&first, host).await;
    assert_eq!(first.fleet.host(host).unwrap().state, TunnelState::Encrypted);
    assert_eq!(first.fleet.inventory(host).await.unwrap(), vec![]);

    // A warm start.
    let (warm_up, _) = order(GRACE);
    let session = warm_up.session_id;
    first.fleet.start(Some(host), warm_up).await.unwrap();
    first.fleet.stop(Some(host), session).await.unwrap();

    let (wanted, mark) = order(GRACE);
    let session = wanted.session_id;
    let begun = Instant::now();
    let started = first.fleet.start(Some(host), repeated_order(&wanted)).await.unwrap();
    let greeted = begun.elapsed();
    assert_eq!(framebuffer_size(&first, session, &started).await, (1280, 800));
    println!(
        "launch through tunnels: greeting after {greeted:?}, first frame after {:?}",
        begun.elapsed()
    );
    let report = first.fleet.tunnel(session).unwrap();
    assert_eq!(report.state, TunnelState::Encrypted);
    assert!(report.rx_bytes > 1280 * 800 && report.last_handshake_at.is_some(), "{report:?}");

    // Repeated: the same desktop, with a tunnel of new keys.
    let server = display_server(&mark);
    let same = first.fleet.start(Some(host), repeated_order(&wanted)).await.unwrap();
    assert_eq!(same.credential, started.credential);
    assert_ne!(same.peer_public_key, started.peer_public_key);
    assert_eq!(display_server(&mark), server);
    let mut two = first.fleet.inventory(host).await.unwrap();
    assert_eq!(two.pop(), Some(session));
    assert!(two.is_empty());
    framebuffer_size(&first, session, &same).await;

    // The session's tunnel reaches that port and nothing else, and no other tunnel reaches that
    // port.
    for port in [portcullis::host::control::PORT, 22, 5901] {
        assert!(tunnel(&first, session).connect(port).await.is_err(), "port {port}");
    }
    assert!(first.hub.tunnel(TunnelId(host.0)).unwrap().connect(same.port).await.is_err());

    // The gateway restarts with its stored state: the same desktop, at once.
    state.host.endpoint = first.fleet.host(host).unwrap().endpoint;
    first.hub.shutdown().await;
    drop(first);
    let second = start_gateway(&mut state).await;
    second.fleet.add_host(peer(&state)).unwrap();
    let stored = SessionPeer {
        session_id: session,
        host_id: Some(host),
        way: Default::default(),
        address: wanted.address,
        peer_public_key: same.peer_public_key.clone(),
        preshared_key: SecretBytes::new(same.preshared_key.expose().clone()),
    };
    let begun = Instant::now();
    second.fleet.restore(stored).unwrap();
    wait_until_connected(&second, host).await;
    assert_eq!(framebuffer_size(&second, session, &same).await, (1280, 800));
    println!("after a gateway restart: first frame after {:?}", begun.elapsed());
    assert_eq!(display_server(&mark), server);

    // Dropped keys end the stream and keep the desktop; a stop ends the desktop.
    let mut stream = tunnel(&second, session).connect(same.port).await.unwrap();
    let begun = Instant::now();
    second.fleet.drop_keys(session);
    let mut rest = Vec::new();
    let _ =
        tokio::time::timeout(TIMEOUT, tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest))
            .await
            .unwrap();
    println!("a cut stream ended after {:?}", begun.elapsed());
    assert!(second.fleet.tunnel(session).is_none());
    assert!(!processes_with_mark(&mark).is_empty());
    second.fleet.stop(Some(host), session).await.unwrap();
    assert_eq!(processes_with_mark(&mark), Vec::<u32>::new());
    second.fleet.stop(Some(host), session).await.unwrap();
    assert_eq!(second.fleet.inventory(host).await.unwrap(), vec![]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_desktop_is_reported_and_an_agent_ends_its_desktops() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("s");
    let mut state = gateway_state();
    let gateway = start_gateway(&mut state).await;
    let agent = start_enrolled_agent(&mut state, &gateway, &state_dir).await;
    let host = state.host.id;
    wait_until_connected(&gateway, host).await;
    let (one, one_mark) = order(GRACE);
    let (two, two_mark) = order(GRACE);
    let two = DesktopOrder { address: "10.64.0.10".parse().unwrap(), ..two };
    let (one_id, two_id) = (one.session_id, two.session_id);
    let (first, second) =
        tokio::join!(gateway.fleet.start(Some(host), one), gateway.fleet.start(Some(host), two));
    let (first, _second) = (first.unwrap(), second.unwrap());

    let mut stream = tunnel(&gateway, one_id).connect(first.port).await.unwrap();
    let mut changed = gateway.fleet.host_changed(host);
    changed.borrow_and_update();
    let server = display_server(&one_mark);
    let begun = Instant::now();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    let mut rest = Vec::new();
    let _ =
        tokio::time::timeout(TIMEOUT, tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest))
            .await
            .unwrap();
    let stream_ended = begun.elapsed();
    tokio::time::timeout(TIMEOUT, changed.changed()).await.unwrap().unwrap();
    println!(
        "a dead desktop: its stream ended after {stream_ended:?}, the gateway was told after {:?}",
        begun.elapsed()
    );
    wait_until("the dead one is gone", || processes_with_mark(&one_mark).is_empty()).await;
    assert_eq!(gateway.fleet.inventory(host).await.unwrap(), vec![two_id]);

    // An order that fails leaves nothing and returns the reason.
    let (odd, _) = order(GRACE);
    let odd_id = odd.session_id;
    let odd = DesktopOrder {
        workspace: Workspace { spec: web_application(), ..odd.workspace.clone() },
        ..odd
    };
    assert!(matches!(gateway.fleet.start(Some(host), odd).await, Err(FleetError::Refused(_))));
    assert!(gateway.fleet.tunnel(odd_id).is_none());
    let (nowhere, _) = order(GRACE);
    assert!(matches!(
        gateway.fleet.start(Some(HostId::new()), nowhere).await,
        Err(FleetError::NotConnected)
    ));

    // A second agent on the same state folder is refused; the first ends cleanly and its desktops
    // with it.
    let (_keep, stopped) = watch::channel(false);
    assert!(matches!(
        run(AgentConfig::new(state_dir.clone()), stopped).await,
        Err(AgentError::State(_))
    ));
    let begun = Instant::now();
    agent.stop().await;
    println!("an agent with a desktop ended in {:?}", begun.elapsed());
    assert_eq!(processes_with_mark(&two_mark), Vec::<u32>::new());

    // Later starts need the state folder only; the gateway notices the agent, whose inventory is
    // empty.
    let again = self::start_agent(AgentConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..AgentConfig::new(state_dir)
    });
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match gateway.fleet.inventory(host).await {
            Ok(found) => break assert_eq!(found, vec![]),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reconnects_to_a_gateway_that_lost_its_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = gateway_state();
    let first = start_gateway(&mut state).await;
    let config = AgentConfig {
        gateway_silence: Duration::from_secs(6),
        ..AgentConfig::new(dir.path().join("s"))
    };
    let agent = start_enrolled_agent_with(&mut state, &first, config).await;
    let host = state.host.id;
    wait_until_connected(&first, host).await;
    let (wanted, _) = order(GRACE);
    let (session, address) = (wanted.session_id, wanted.address);
    let started = first.fleet.start(Some(host), wanted).await.unwrap();
    first.hub.shutdown().await;
    drop(first);

    state.host.endpoint = None;
    let second = start_gateway(&mut state).await;
    second.fleet.add_host(peer(&state)).unwrap();
    let preshared_key = SecretBytes::new(started.preshared_key.expose().clone());
    let stored = SessionPeer {
        session_id: session,
        host_id: Some(host),
        way: Default::default(),
        address,
        peer_public_key: started.peer_public_key.clone(),
        preshared_key,
    };
    let begun = Instant::now();
    second.fleet.restore(stored).unwrap();
    assert!(second.fleet.connected().is_empty());
    wait_until_connected(&second, host).await;
    let found = begun.elapsed();
    // The session's tunnel is restored without a request.
    wait_until("the session's tunnel", || {
        second.fleet.tunnel(session).is_some_and(|report| report.state == TunnelState::Encrypted)
    })
    .await;
    println!(
        "a gateway that knew no endpoint was called after {found:?}, its session was back after {:?}",
        begun.elapsed()
    );
    assert_eq!(framebuffer_size(&second, session, &started).await, (1280, 800));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desktops_end_after_the_grace_without_a_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = gateway_state();
    let gateway = start_gateway(&mut state).await;
    let config = AgentConfig {
        gateway_silence: Duration::from_secs(6),
        ..AgentConfig::new(dir.path().join("s"))
    };
    let agent = start_enrolled_agent_with(&mut state, &gateway, config).await;
    let host = state.host.id;
    wait_until_connected(&gateway, host).await;
    let (wanted, mark) = order(Duration::from_secs(1));
    gateway.fleet.start(Some(host), wanted).await.unwrap();
    let begun = Instant::now();
    gateway.hub.shutdown().await;
    eventually("the desktop ends", async || processes_with_mark(&mark).is_empty()).await;
    println!("without its gateway a desktop with 1 s of grace ended after {:?}", begun.elapsed());
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_without_an_identity_refuses_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let (_keep, stopped) = watch::channel(false);
    let error = run(AgentConfig::new(dir.path().join("s")), stopped).await.unwrap_err();
    assert!(matches!(error, AgentError::NotEnrolled));
}
