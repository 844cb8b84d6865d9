//! Launching web applications through a real agent and real tunnels: they answer, or the launch
//! says why not.

use super::gateway_harness::{
    gateway_state, order, start_enrolled_agent_with, start_gateway, wait_until_connected,
    web_application,
};
use super::harness::TIMEOUT;
use portcullis::broker::ports::host_fleet::{
    DesktopOrder, Endpoint, FleetError, HostFleet, ProbeFailure,
};
use portcullis::domain::SessionId;
use portcullis::domain::upstream::{Fingerprint, TrustRule};
use portcullis::domain::web_app::Scheme;
use portcullis::domain::workspace::{WorkspaceKind, WorkspaceSpec};
use portcullis::host::agent::AgentConfig;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server on a port of its own that says this to whoever has asked something.
async fn server(says: &'static [u8], tls: Option<TlsAcceptor>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => answer(stream, says).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer(stream, says).await;
                        }
                    }
                }
            });
        }
    });
    at
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: &[u8]) {
    let mut asked = [0; 1024];
    if matches!(stream.read(&mut asked).await, Ok(1..)) {
        let _ = stream.write_all(says).await;
        let _ = stream.shutdown().await;
    }
}

fn tls() -> (TlsAcceptor, Fingerprint) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["wiki.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let print = Fingerprint(Sha256::digest(certificate.der()).into());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
    (TlsAcceptor::from(Arc::new(config)), print)
}

fn web(name: &str, n: u8, scheme: Scheme) -> DesktopOrder {
    let (mut order, _) = order(Duration::from_secs(600));
    order.workspace.spec = web_application();
    let WorkspaceSpec::WebApp(app) = &mut order.workspace.spec else { unreachable!() };
    app.config.scheme = scheme;
    app.config.host = "wiki.example".to_owned();
    order.endpoint = Endpoint::Service { name: name.to_owned() };
    order.address = format!("10.64.0.{n}").parse().unwrap();
    order.session_id = SessionId::new();
    order
}

fn probe_failure(
    result: Result<portcullis::broker::ports::host_fleet::DesktopStarted, FleetError>,
) -> ProbeFailure {
    match result {
        Err(FleetError::Probe(how)) => how,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_application_answers_or_the_launch_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (acceptor, print) = tls();
    let services = [
        ("wiki", server(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", None).await),
        ("secure", server(b"HTTP/1.1 200 OK\r\n\r\n", Some(acceptor)).await),
        ("desktop", server(b"RFB 003.008\n", None).await),
        ("rude", server(b"", None).await),
        ("mute", mute.local_addr().unwrap().to_string()),
        ("down", closed.local_addr().unwrap().to_string()),
    ];
    drop(closed);
    let mut kept = gateway_state();
    let gateway = start_gateway(&mut kept).await;
    let services = services.map(|(name, at)| (name.to_owned(), at)).into_iter().collect();
    let agent = start_enrolled_agent_with(
        &mut kept,
        &gateway,
        AgentConfig { services, ..AgentConfig::new(dir.path().join("s")) },
    )
    .await;
    let host = kept.host.id;
    wait_until_connected(&gateway, host).await;

    // What it offers is known soon after it connected.
    let mut changed = gateway.fleet.hosts_changed();
    tokio::time::timeout(TIMEOUT, changed.wait_for(|_| gateway.fleet.capabilities(host).is_some()))
        .await
        .unwrap()
        .unwrap();
    let offers = gateway.fleet.capabilities(host).unwrap();
    assert!(
        offers.service_kinds.contains(&WorkspaceKind::Html5)
            && offers.kinds.contains(&WorkspaceKind::Linux)
    );
    assert!(
        offers.services.contains(&("wiki".to_owned(), true))
            && offers.services.contains(&("down".to_owned(), false)),
        "{offers:?}"
    );

    let fleet = &gateway.fleet;
    let begun = Instant::now();
    let started = fleet.start(Some(host), web("wiki", 10, Scheme::Http)).await.unwrap();
    println!("a web application was launched in {:?}", begun.elapsed());
    assert_eq!(
        (started.port, started.credential.expose().as_str(), started.certificate),
        (80, "", None)
    );
    assert_eq!(
        probe_failure(fleet.start(Some(host), web("down", 11, Scheme::Http)).await),
        ProbeFailure::Down
    );
    assert_eq!(
        probe_failure(fleet.start(Some(host), web("desktop", 12, Scheme::Http)).await),
        ProbeFailure::NotHttp
    );
    assert_eq!(
        probe_failure(fleet.start(Some(host), web("rude", 13, Scheme::Http)).await),
        ProbeFailure::Closed
    );
    assert_eq!(
        probe_failure(fleet.start(Some(host), web("secure", 14, Scheme::Http)).await),
        ProbeFailure::Tls
    );
    assert!(matches!(
        probe_failure(fleet.start(Some(host), web("desktop", 15, Scheme::Https)).await),
        ProbeFailure::NoTls(_)
    ));
    assert_eq!(
        probe_failure(fleet.start(Some(host), web("mute", 16, Scheme::Http)).await),
        ProbeFailure::Slow
    );
    assert!(matches!(
        fleet.start(Some(host), web("other", 17, Scheme::Http)).await,
        Err(FleetError::Refused(_))
    ));

    // By HTTPS: the first certificate is taken, another than the pinned is not, and it is told
    // which it was.
    fleet.start(Some(host), web("secure", 18, Scheme::Https)).await.unwrap();
    fleet
        .start(Some(host), DesktopOrder { pin: Some(print), ..web("secure", 19, Scheme::Https) })
        .await
        .unwrap();
    let other =
        DesktopOrder { pin: Some(Fingerprint([1; 32])), ..web("secure", 20, Scheme::Https) };
    let mut pinned = web("secure", 21, Scheme::Https);
    let WorkspaceSpec::WebApp(app) = &mut pinned.workspace.spec else { unreachable!() };
    app.access.trust = TrustRule::Pinned(Fingerprint([2; 32]));
    for order in [other, pinned] {
        match probe_failure(fleet.start(Some(host), order).await) {
            ProbeFailure::Certificate { certificate: seen, .. } => {
                assert_eq!((seen.fingerprint, seen.subject.is_empty()), (print, false))
            }
            other => panic!("{other:?}"),
        }
    }
    // What failed left nothing.
    let left = fleet.inventory(host).await.unwrap();
    assert_eq!(left.len(), 3, "{left:?}");
    agent.stop().await;
}
