//! Sessions without a tunnel of their own, through the real fleet: the authorization ends a stream,
//! and a closed session cannot be dialled.

use super::harness::{Harness, authenticate_desktop, is_closed, lease_by, server, server_init};
use super::recording_audit::RecordingAudit;
use futures_util::FutureExt;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::broker::ports::host_fleet::{HostFleet, SessionPeer};
use portcullis::domain::OrganizationId;
use portcullis::domain::lease::Lease;
use portcullis::domain::route::SessionRoute;
use portcullis::domain::secret::SecretBytes;
use portcullis::domain::session::EndReason;
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::fleet::{FleetConfig, HubFleet};
use portcullis::tunnel::{Hub, HubConfig, PrivateKey};
use portcullis::viewer::{Dial, Timeouts};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A fleet whose direct target `lab` is the listener, and a lease of a session on it.
async fn on_direct_target() -> (HubFleet, TcpListener, Lease) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let hub = Hub::bind(HubConfig { listen: ([127, 0, 0, 1], 0).into() }).await.unwrap();
    let config = FleetConfig {
        private_key: PrivateKey::generate().unwrap(),
        endpoint: hub.local_addr().to_string(),
        address: "10.64.0.1".parse().unwrap(),
        start_timeout: Duration::from_secs(60),
        direct: [("lab".to_owned(), target)].into(),
    };
    let fleet = HubFleet::new(hub, config);
    let route = SessionRoute::Direct("lab".to_owned());
    let lease = lease_by(OrganizationId::new(), WorkspaceKind::Vnc, server(), route.clone());
    let session = SessionPeer {
        session_id: lease.session().id,
        host_id: None,
        way: route,
        address: lease.address(),
        peer_public_key: String::new(),
        preshared_key: SecretBytes::new(Vec::new()),
    };
    fleet.restore(session).unwrap();
    (fleet, listener, lease)
}

#[tokio::test]
async fn the_authorization_ends_a_stream_and_a_closed_session_cannot_be_dialled() {
    let (fleet, listener, lease) = on_direct_target().await;
    let (session, again) = (lease.session().id, fleet.clone());
    let mut harness = Harness::with_lease(
        lease,
        fleet.clone(),
        mpsc::unbounded_channel().1,
        Timeouts::default(),
        RecordingAudit::default(),
    );
    let (mut desktop, _) = listener.accept().await.unwrap();
    authenticate_desktop(&mut desktop).await;
    harness.browser.negotiate().await;
    tokio::join!(server_init(&mut desktop, 1), harness.browser.client_init());
    let report = fleet.tunnel(session).unwrap();
    assert!(report.tx_bytes > 0 && report.rx_bytes > 0, "{report:?}");
    assert!(report.desktop_rtt.is_some(), "the greeting is measured");

    // In the order of the broker: the authorization is revoked, then the path is removed.
    let ended = StreamAuthorization::SessionEnded(EndReason::AdminStopped);
    harness.authorization.send(ended).unwrap();
    fleet.drop_keys(session);
    let (end, _browser) = harness.end().await;
    assert_eq!(end.reason_code(), "admin_stopped");
    assert!(is_closed(&mut desktop).await);
    assert!(fleet.tunnel(session).is_none());

    let route = SessionRoute::Direct("lab".to_owned());
    let lease = lease_by(OrganizationId::new(), WorkspaceKind::Vnc, server(), route);
    let refused = again.dial(&lease).await.err().expect("the session is unknown");
    assert_eq!(refused.kind(), ErrorKind::NotConnected);
}

#[tokio::test]
async fn a_dial_that_completes_after_its_session_is_closed_fails() {
    let (fleet, _listener, lease) = on_direct_target().await;
    let mut dial = fleet.dial(&lease);
    assert!((&mut dial).now_or_never().is_none(), "connecting takes at least one poll");
    fleet.drop_keys(lease.session().id);
    let refused = dial.await.err().expect("the session is closed");
    assert_eq!(refused.kind(), ErrorKind::ConnectionAborted);
}
