//! Enrolment over real HTTPS, against a server that keeps what it was told.

use portcullis::domain::HostId;
use portcullis::domain::secret::SecretString;
use portcullis::host::enroll::{EnrollError, Enrollment, Trust, enroll};
use portcullis::tunnel::{PresharedKey, PrivateKey};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A gateway that can do nothing but enrol: answers every request with `status` and `body`, and
/// hands over what it got.
pub struct FakeGateway {
    pub url: String,
    pub sha256: [u8; 32],
    pub pem: String,
    pub asked: tokio::sync::mpsc::Receiver<serde_json::Value>,
}

pub async fn fake_gateway(status: u16, body: String) -> FakeGateway {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let der = made.cert.der().clone();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], key.into())
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (tell, asked) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            let said = loop {
                let n = stream.read(&mut piece).await.unwrap();
                request.extend_from_slice(&piece[..n]);
                let text = String::from_utf8_lossy(&request);
                assert!(text.starts_with("POST /api/hosts/enroll HTTP/1.1\r\n"), "{text}");
                if let Some((_, json)) = text.split_once("\r\n\r\n")
                    && let Ok(value) = serde_json::from_str(json)
                {
                    break value;
                }
                assert!(n > 0, "cut short");
            };
            tell.send(said).await.unwrap();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    FakeGateway { url, sha256: Sha256::digest(&der).into(), pem: made.cert.pem(), asked }
}

pub fn enrollment(gateway: &FakeGateway, trust: Trust) -> Enrollment {
    Enrollment {
        gateway: gateway.url.clone(),
        token: SecretString::new("join-me".to_owned()),
        name: "host-1".to_owned(),
        trust,
    }
}

#[tokio::test]
async fn the_key_stays_here_and_the_answer_is_kept() {
    let (host_id, psk, theirs) =
        (HostId::new(), PresharedKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let body = serde_json::json!({
        "host_id": host_id, "name": "host-1", "host_address": "10.127.0.2", "gateway_address": "10.127.0.1",
        "gateway_public_key": theirs.public_key().to_string(), "gateway_endpoint": "localhost:51820", "preshared_key": psk.expose_base64().as_str(),
    });
    let mut gateway = fake_gateway(201, body.to_string()).await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &gateway.pem).unwrap();
    for trust in [Trust::Certificate(gateway.sha256), Trust::Authorities(ca)] {
        let identity = enroll(&enrollment(&gateway, trust)).await.unwrap();
        let said = gateway.asked.recv().await.unwrap();
        assert_eq!(said["token"], "join-me");
        assert_eq!(said["public_key"], identity.private_key.public_key().to_string());
        assert_eq!(
            said.as_object().unwrap().len(),
            4,
            "token, name, public key, version and nothing else"
        );
        assert_eq!((identity.host_id, identity.gateway_public_key), (host_id, theirs.public_key()));
        assert!(!format!("{identity:?}").contains(psk.expose_base64().as_str()));
    }
}

#[tokio::test]
async fn a_foreign_certificate_gets_no_token() {
    let mut gateway = fake_gateway(201, "{}".to_owned()).await;
    for trust in [Trust::Certificate([7; 32]), Trust::System] {
        let refused = enroll(&enrollment(&gateway, trust)).await.unwrap_err();
        assert!(
            matches!(&refused, EnrollError::Http(why) if !why.contains("join-me")),
            "{refused}"
        );
    }
    assert!(gateway.asked.try_recv().is_err(), "it was told something");
    let plain = Enrollment {
        gateway: gateway.url.replace("https", "http"),
        ..enrollment(&gateway, Trust::System)
    };
    assert!(matches!(enroll(&plain).await, Err(EnrollError::NotHttps)));
}

#[tokio::test]
async fn refusals_and_nonsense_are_told_apart() {
    let gateway_no =
        fake_gateway(401, r#"{"detail":"Invalid or expired join token"}"#.to_owned()).await;
    let refused =
        enroll(&enrollment(&gateway_no, Trust::Certificate(gateway_no.sha256))).await.unwrap_err();
    assert_eq!(refused.to_string(), "the gateway refused (401): Invalid or expired join token");
    for body in ["{}".to_owned(), "nonsense".to_owned(), "x".repeat(100_000)] {
        let odd = fake_gateway(201, body).await;
        assert!(matches!(
            enroll(&enrollment(&odd, Trust::Certificate(odd.sha256))).await,
            Err(EnrollError::InvalidResponse)
        ));
    }
}
