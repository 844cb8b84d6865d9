//! Certificates of desktops: accepted, pinned, verified by authorities, refused; and proof of
//! possession of the key.

use super::recording_audit::{RecordedEvent, RecordingAudit};
use portcullis::domain::upstream::{Fingerprint, TrustRule, UpstreamTrust};
use portcullis::viewer::stream_audit::CertificateCheck;
use portcullis::viewer::stream_end::StreamEnd;
use portcullis::viewer::trust::{ExpectedServer, connect_tls};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use sha2::{Digest, Sha256};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key.
#[derive(Clone)]
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    fn of(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), key: key.serialize_der() }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(&self.certificate).into())
    }
}

/// Result of a TLS connection under a rule.
async fn connect(
    server: &Identity,
    versions: &[&'static SupportedProtocolVersion],
    trust: UpstreamTrust,
    audit: &RecordingAudit,
) -> Result<usize, StreamEnd> {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server.key.clone()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(FixedCertificate(Arc::new(
                rustls::sign::CertifiedKey::new(
                    vec![server.certificate.clone()],
                    rustls::crypto::ring::sign::any_supported_type(&key).unwrap(),
                ),
            ))));
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(far).await?;
        stream.write_all(b"inside").await?;
        stream.flush().await?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await
    });
    let expected = ExpectedServer {
        trust: &trust,
        address: "127.0.0.1".parse().unwrap(),
        name: "",
        timeout: Duration::from_secs(20),
    };
    let secured = connect_tls(near, expected, audit).await;
    let result = match secured {
        Ok(mut secured) => {
            let mut inside = [0; 6];
            secured.stream.read_exact(&mut inside).await.unwrap();
            assert_eq!(&inside, b"inside");
            Ok(secured.chain.len())
        }
        Err(end) => Err(end),
    };
    let _ = serving.await;
    result
}

/// Serves one certificate for any request, also one that rustls would not load.
#[derive(Debug)]
struct FixedCertificate(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for FixedCertificate {
    fn resolve(
        &self,
        _: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn first_use(pin: Option<Fingerprint>) -> UpstreamTrust {
    UpstreamTrust { rule: TrustRule::FirstUse, pin }
}

fn pinned(pin: Fingerprint) -> UpstreamTrust {
    UpstreamTrust { rule: TrustRule::Pinned(pin), pin: None }
}

fn refused(result: Result<usize, StreamEnd>) -> &'static str {
    match result {
        Err(StreamEnd::CertificateRefused(reason_code)) => reason_code,
        other => panic!("expected a refusal: {other:?}"),
    }
}

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[tokio::test]
async fn the_first_one_is_pinned_and_another_is_refused_until_accepted() {
    let (first, second, audit) =
        (Identity::of(&["desk.test"]), Identity::of(&["desk.test"]), RecordingAudit::default());
    for version in BOTH {
        assert_eq!(connect(&first, &[version], first_use(None), &audit).await.unwrap(), 1);
    }
    assert_eq!(audit.pin(), Some(first.fingerprint()));
    assert_eq!(
        connect(&first, &BOTH, first_use(audit.pin()), &audit).await.unwrap(),
        1,
        "the known one needs no entry"
    );
    assert_eq!(audit.events().len(), 2);
    assert_eq!(refused(connect(&second, &BOTH, first_use(audit.pin()), &audit).await), "changed");
    let events = audit.events();
    let Some(RecordedEvent::CertificateChecked(seen, CertificateCheck::Refused)) = events.last()
    else {
        panic!("{events:?}")
    };
    assert_eq!(
        (seen.fingerprint, seen.subject.as_str()),
        (second.fingerprint(), "CN=rcgen self signed cert")
    );
    audit.accept_pin(second.fingerprint());
    connect(&second, &BOTH, first_use(audit.pin()), &audit).await.unwrap();
    assert_eq!(refused(connect(&first, &BOTH, first_use(audit.pin()), &audit).await), "changed");
}

#[tokio::test]
async fn a_configured_pin_is_the_only_one() {
    let (ours, other, audit) =
        (Identity::of(&["desk.test"]), Identity::of(&["desk.test"]), RecordingAudit::default());
    connect(&ours, &BOTH, pinned(ours.fingerprint()), &audit).await.unwrap();
    assert_eq!(audit.events(), [], "as configured");
    assert_eq!(
        refused(connect(&other, &BOTH, pinned(ours.fingerprint()), &audit).await),
        "not_the_pinned"
    );
    assert!(
        matches!(&audit.events()[..], [RecordedEvent::CertificateRefused(seen, "not_the_pinned")] if seen.fingerprint == other.fingerprint())
    );
}

#[tokio::test]
async fn authorities_verify_a_server_and_its_name() {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let issue = |name: &str, expired: bool| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            (params.not_before, params.not_after) =
                (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
        }
        let certificate = params.signed_by(&key, &authority).unwrap();
        Identity { certificate: certificate.der().clone(), key: key.serialize_der() }
    };
    let by = |name: Option<&str>| UpstreamTrust {
        rule: TrustRule::Authority { roots: authority.pem(), name: name.map(str::to_owned) },
        pin: None,
    };
    let audit = RecordingAudit::default();
    let desk = issue("desk.test", false);
    connect(&desk, &BOTH, by(Some("desk.test")), &audit).await.unwrap();
    connect(&desk, &BOTH, by(None), &audit).await.unwrap();
    assert_eq!(audit.events(), []);
    assert_eq!(refused(connect(&desk, &BOTH, by(Some("other.test")), &audit).await), "other_name");
    assert_eq!(
        refused(connect(&issue("desk.test", true), &BOTH, by(Some("desk.test")), &audit).await),
        "expired"
    );
    assert_eq!(
        refused(connect(&Identity::of(&["desk.test"]), &BOTH, by(Some("desk.test")), &audit).await),
        "unknown_authority"
    );
    let rule = TrustRule::Authority {
        roots: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
        name: None,
    };
    assert_eq!(
        refused(connect(&desk, &BOTH, UpstreamTrust { rule, pin: None }, &audit).await),
        "authorities_unreadable"
    );
    assert_eq!(audit.events().len(), 4, "each is written down");
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let (ours, thief) = (Identity::of(&["desk.test"]), Identity::of(&["desk.test"]));
    let stolen = Identity { certificate: ours.certificate.clone(), key: thief.key };
    for version in BOTH {
        let result =
            connect(&stolen, &[version], pinned(ours.fingerprint()), &RecordingAudit::default())
                .await;
        assert!(matches!(result, Err(StreamEnd::TlsFailed(_))), "{result:?}");
    }
}

/// xrdp installations have such certificates and RSA keys.
#[tokio::test]
async fn version_1_certificates_with_rsa_keys_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).output().expect("openssl is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let (pem, key, request, certificate) =
        (path("key.pem"), path("key.der"), path("request"), path("certificate.der"));
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &pem]);
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", &pem, "-outform", "DER", "-out", &key]);
    openssl(&["req", "-new", "-key", &pem, "-subj", "/CN=old.test", "-out", &request]);
    // `x509 -req` without extensions creates version 1.
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-signkey",
        &pem,
        "-days",
        "2",
        "-outform",
        "DER",
        "-out",
        &certificate,
    ]);
    let old = Identity {
        certificate: std::fs::read(&certificate).unwrap().into(),
        key: std::fs::read(&key).unwrap(),
    };
    let audit = RecordingAudit::default();
    for version in BOTH {
        connect(&old, &[version], first_use(None), &audit).await.unwrap();
    }
    assert!(
        matches!(&audit.events()[0], RecordedEvent::CertificateChecked(seen, CertificateCheck::Trusted) if seen.subject == "CN=old.test")
    );
}

#[tokio::test]
async fn a_server_that_hangs_or_speaks_no_tls() {
    for said in [&b""[..], b"RFB 003.008\n", &[0x16, 3, 3, 0xff, 0xff]] {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(said).await.unwrap();
        let expected = ExpectedServer {
            trust: &first_use(None),
            address: "127.0.0.1".parse().unwrap(),
            name: "",
            timeout: Duration::from_millis(200),
        };
        let end =
            connect_tls(near, expected, &RecordingAudit::default()).await.expect_err("no TLS");
        assert!(matches!(end, StreamEnd::TlsFailed(_)), "{end:?}");
        drop(far);
    }
}
