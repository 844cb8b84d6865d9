//! HTTPS applications: trust in the certificate, and audit of refused ones.

use super::harness::*;
use portcullis::domain::upstream::{Fingerprint, TrustRule, Upstream, UpstreamTrust};
use portcullis::domain::web_app::{Scheme, WebAppConfig};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Names = Arc<Mutex<Vec<Option<String>>>>;

/// An HTTPS server that responds `ok`, its certificate, and the server names it received.
async fn server() -> (SocketAddr, CertificateDer<'static>, Names) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["wiki.corp".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .der()
        .clone();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private)
            .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let names = Names::default();
    let received = names.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, received) = (acceptor.clone(), received.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                received.lock().unwrap().push(stream.get_ref().1.server_name().map(str::to_owned));
                let mut head = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    head.push(byte);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        stream.write_all(OK).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                }
            });
        }
    });
    (address, certificate, names)
}

async fn harness(to: SocketAddr, host: &str, trust: UpstreamTrust) -> Harness {
    let config =
        WebAppConfig { scheme: Scheme::Https, host: host.into(), ..WebAppConfig::default() };
    let server = Box::new(|server: Upstream| Upstream { trust, ..server });
    Harness::with_setup(to, Setup { config, server, ..Setup::default() }).await
}

#[tokio::test]
async fn the_first_certificate_is_pinned_and_the_server_name_is_sent() {
    let (to, certificate, names) = server().await;
    let harness = harness(to, "wiki.corp:8443", UpstreamTrust::default()).await;
    assert_eq!(harness.get("/").await.text(), "ok");
    assert_eq!(harness.get("/").await.text(), "ok");
    assert_eq!(
        *names.lock().unwrap(),
        [Some("wiki.corp".to_owned())],
        "one connection, by its name"
    );
    let pinned = harness.entries("pin_certificate", 1).await.remove(0);
    assert_eq!(
        pinned.details["fingerprint"],
        Fingerprint(Sha256::digest(&certificate).into()).to_string()
    );
    harness.app.probe().await.unwrap();
}

#[tokio::test]
async fn another_certificate_is_refused_before_a_request_is_sent() {
    let (to, _, _) = server().await;
    for trust in [
        UpstreamTrust { rule: TrustRule::Pinned(Fingerprint([7; 32])), pin: None },
        UpstreamTrust {
            rule: TrustRule::Authority { roots: String::new(), name: None },
            pin: None,
        },
    ] {
        let harness = harness(to, "", trust).await;
        let answer = harness.get("/").await;
        assert_eq!((answer.status(), answer.code().as_str()), (502, "certificate_refused"));
        assert_eq!(harness.app.probe().await.unwrap_err().code(), "certificate_refused");
        assert_eq!(harness.entries("certificate_refused", 2).await.len(), 2);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_reported() {
    let (to, mut connections) = listen().await;
    let harness = harness(to, "", UpstreamTrust::default()).await;
    let serve = async {
        let mut stream = next(&mut connections).await;
        let _ = read(&mut stream, 5).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let (answer, _held) = tokio::join!(harness.get("/"), serve);
    assert_eq!((answer.status(), answer.code().as_str()), (502, "application_insecure"));
}
