//! Applications of HTTPS: the certificate decides, and one that is refused is in the log.

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

/// A server of HTTPS that answers `ok`, its certificate, and the names it was asked for.
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
    let told = names.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, told) = (acceptor.clone(), told.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                told.lock().unwrap().push(stream.get_ref().1.server_name().map(str::to_owned));
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

async fn rig(to: SocketAddr, host: &str, trust: UpstreamTrust) -> Harness {
    let terms =
        WebAppConfig { scheme: Scheme::Https, host: host.into(), ..WebAppConfig::default() };
    let server = Box::new(|server: Upstream| Upstream { trust, ..server });
    Harness::with_setup(to, Setup { config: terms, server, ..Setup::default() }).await
}

#[tokio::test]
async fn the_first_certificate_is_pinned_and_the_name_is_said() {
    let (to, certificate, names) = server().await;
    let rig = rig(to, "wiki.corp:8443", UpstreamTrust::default()).await;
    assert_eq!(rig.get("/").await.text(), "ok");
    assert_eq!(rig.get("/").await.text(), "ok");
    assert_eq!(
        *names.lock().unwrap(),
        [Some("wiki.corp".to_owned())],
        "one connection, by its name"
    );
    let pinned = rig.entries("pin_certificate", 1).await.remove(0);
    assert_eq!(
        pinned.details["fingerprint"],
        Fingerprint(Sha256::digest(&certificate).into()).to_string()
    );
    rig.app.probe().await.unwrap();
}

#[tokio::test]
async fn another_certificate_is_refused_before_anything_is_sent() {
    let (to, _, _) = server().await;
    for trust in [
        UpstreamTrust { rule: TrustRule::Pinned(Fingerprint([7; 32])), pin: None },
        UpstreamTrust {
            rule: TrustRule::Authority { roots: String::new(), name: None },
            pin: None,
        },
    ] {
        let rig = rig(to, "", trust).await;
        let answer = rig.get("/").await;
        assert_eq!((answer.status(), answer.code().as_str()), (502, "certificate_refused"));
        assert_eq!(rig.app.probe().await.unwrap_err().code(), "certificate_refused");
        assert_eq!(rig.entries("certificate_refused", 2).await.len(), 2);
    }
}

#[tokio::test]
async fn one_that_speaks_no_tls_is_told_so() {
    let (to, mut connections) = listen().await;
    let rig = rig(to, "", UpstreamTrust::default()).await;
    let serve = async {
        let mut stream = next(&mut connections).await;
        let _ = read(&mut stream, 5).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let (answer, _held) = tokio::join!(rig.get("/"), serve);
    assert_eq!((answer.status(), answer.code().as_str()), (502, "application_insecure"));
}
