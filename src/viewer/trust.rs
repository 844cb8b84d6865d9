//! TLS to an upstream, and the check of its certificate.
//!
//! - The handshake accepts any certificate, also one that browsers refuse (self-signed, expired,
//!   X.509 version 1), because desktops have such certificates. The server must still prove by its
//!   signature that it holds the private key.
//! - After the handshake, and before any byte of the protocol inside, the workspace's *rule*
//!   decides ([`ServerTrust`]): a pin, the first certificate seen, or certificate authorities.
//!
//! TLS 1.2 and 1.3 only, without resumption: CredSSP forbids it ([MS-CSSP] section 3.1.5), and a
//! pin is checked on every connection.

use super::stream_audit::{CertificateCheck, PresentedCertificate, StreamAudit};
use super::stream_end::StreamEnd;
use crate::domain::upstream::{Fingerprint, TrustRule, UpstreamTrust};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{Decode, Encode};

/// Longest subject in an audit entry, in characters.
const MAX_SUBJECT: usize = 200;

/// A TLS connection to an upstream whose certificate was accepted.
#[derive(Debug)]
pub struct TlsUpstream<S> {
    pub stream: TlsStream<S>,
    /// The server's certificates as it sent them, its own first. Not empty.
    pub chain: Vec<CertificateDer<'static>>,
}

/// What a server must prove.
#[derive(Clone, Copy)]
pub struct ExpectedServer<'a> {
    pub trust: &'a UpstreamTrust,
    /// Address that was dialled; never sent.
    pub address: IpAddr,
    /// Server name for SNI, unless the rule has another one; empty: no SNI.
    pub name: &'a str,
    /// Time limit of the TLS handshake.
    pub timeout: Duration,
}

/// Performs a TLS handshake and checks the certificate by the rule.
///
/// # Errors
/// Why the stream ends. A certificate that is not trusted is recorded before.
pub async fn connect_tls<S>(
    stream: S,
    expected: ExpectedServer<'_>,
    audit: &impl StreamAudit,
) -> Result<TlsUpstream<S>, StreamEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let connector = TlsConnector::from(Arc::new(
        config(provider).map_err(|e| StreamEnd::TlsFailed(io::Error::other(e)))?,
    ));
    let handshake =
        timeout(expected.timeout, connector.connect(server_name(&expected), stream)).await;
    let stream = handshake
        .map_err(|_| StreamEnd::TlsFailed(io::ErrorKind::TimedOut.into()))?
        .map_err(StreamEnd::TlsFailed)?;
    let chain: Vec<_> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|c| c.clone().into_owned())
        .collect();
    check_trust(&chain, expected.trust, algorithms, audit).await?;
    Ok(TlsUpstream { stream, chain })
}

/// The server name: the one an administrator configured, else the expected one. An address sends no
/// SNI (RFC 6066 section 3).
fn server_name(expected: &ExpectedServer<'_>) -> ServerName<'static> {
    let from_rule = match &expected.trust.rule {
        TrustRule::Authority { name: Some(name), .. } => ServerName::try_from(name.clone()).ok(),
        TrustRule::Authority { name: None, .. } | TrustRule::FirstUse | TrustRule::Pinned(_) => {
            None
        }
    };
    let from_rule =
        from_rule.or_else(|| ServerName::try_from(expected.name).map(|name| name.to_owned()).ok());
    from_rule.unwrap_or_else(|| ServerName::IpAddress(expected.address.into()))
}

fn config(provider: Arc<CryptoProvider>) -> Result<ClientConfig, Error> {
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(KeyPossessionVerifier { algorithms }))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Applies the rule to the server's certificates.
async fn check_trust(
    chain: &[CertificateDer<'_>],
    trust: &UpstreamTrust,
    algorithms: WebPkiSupportedAlgorithms,
    audit: &impl StreamAudit,
) -> Result<(), StreamEnd> {
    let (leaf, intermediates) = chain.split_first().ok_or_else(|| {
        StreamEnd::TlsFailed(io::Error::other("the server showed no certificate"))
    })?;
    let certificate = PresentedCertificate {
        fingerprint: Fingerprint(Sha256::digest(leaf).into()),
        subject: subject(leaf),
    };
    let reason = match &trust.rule {
        TrustRule::FirstUse if trust.pin == Some(certificate.fingerprint) => return Ok(()),
        TrustRule::FirstUse => {
            return match audit
                .check_certificate(&certificate)
                .await
                .map_err(StreamEnd::AuditFailed)?
            {
                CertificateCheck::Trusted => Ok(()),
                CertificateCheck::Refused => Err(StreamEnd::CertificateRefused("changed")),
            };
        }
        TrustRule::Pinned(pin) if *pin == certificate.fingerprint => return Ok(()),
        TrustRule::Pinned(_) => "not_the_pinned",
        TrustRule::Authority { roots, name } => {
            match verify_authority(leaf, intermediates, (roots, name.as_deref()), algorithms) {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            }
        }
    };
    audit.certificate_refused(&certificate, reason).await.map_err(StreamEnd::AuditFailed)?;
    Err(StreamEnd::CertificateRefused(reason))
}

/// Whether the authorities signed the certificate, and it is valid now, for a server and for the
/// name.
fn verify_authority(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    (roots, name): (&str, Option<&str>),
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<(), &'static str> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        let root = root.map_err(|_| "authorities_unreadable")?;
        store.add(root).map_err(|_| "authorities_unreadable")?;
    }
    let parsed = ParsedCertificate::try_from(leaf).map_err(|_| "unreadable")?;
    verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &store,
        intermediates,
        UnixTime::now(),
        algorithms.all,
    )
    .map_err(|error| match error {
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "expired",
        _ => "unknown_authority",
    })?;
    let Some(name) = name else { return Ok(()) };
    let name = ServerName::try_from(name).map_err(|_| "other_name")?;
    verify_server_name(&parsed, &name).map_err(|_| "other_name")
}

/// Subject of a certificate, safe to print; empty when it cannot be read.
fn subject(certificate: &CertificateDer<'_>) -> String {
    let Ok(parsed) = CertificateInner::<Raw>::from_der(certificate) else { return String::new() };
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    parsed.tbs_certificate().subject().to_string().chars().take(MAX_SUBJECT).map(clean).collect()
}

/// Accepts any certificate whose private key the server proves to hold.
#[derive(Debug)]
struct KeyPossessionVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl KeyPossessionVerifier {
    /// As rustls does it, but without webpki's certificate parser, which refuses X.509 version 1.
    fn check(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        first: bool,
    ) -> Result<(), Error> {
        let invalid = |error| Error::InvalidCertificate(error);
        let parsed = CertificateInner::<Raw>::from_der(certificate)
            .map_err(|_| invalid(CertificateError::BadEncoding))?;
        let key = parsed.tbs_certificate().subject_public_key_info();
        let key_algorithm =
            key.algorithm.to_der().map_err(|_| invalid(CertificateError::BadEncoding))?;
        let key_bits = key
            .subject_public_key
            .as_bytes()
            .ok_or_else(|| invalid(CertificateError::BadEncoding))?;
        let mapping = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let (_, algorithms) = mapping.ok_or_else(|| invalid(CertificateError::BadSignature))?;
        // `AlgorithmIdentifier` of pki-types has no outer SEQUENCE; the known ones are short, so
        // tag and length are two bytes.
        let fits = |algorithm: &&&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
            key_algorithm.get(2..) == Some(&*algorithm.public_key_alg_id())
        };
        // TLS 1.3 binds a scheme to one algorithm, the first (RFC 8446 section 4.2.3).
        let max_candidates = if first { 1 } else { algorithms.len() };
        let found = algorithms
            .iter()
            .take(max_candidates)
            .find(fits)
            .ok_or_else(|| invalid(CertificateError::BadSignature))?;
        found
            .verify_signature(key_bits, message, signed.signature())
            .map_err(|_| invalid(CertificateError::BadSignature))
    }
}

impl ServerCertVerifier for KeyPossessionVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The rule is applied after the handshake.
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check(message, certificate, signed, false)
            .map(|()| HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // PKCS#1 v1.5 is not for TLS 1.3 (RFC 8446 section 4.2.3); SHA-1 is in no mapping.
        let old = [
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ];
        if old.contains(&signed.scheme) {
            return Err(Error::InvalidCertificate(CertificateError::BadSignature));
        }
        self.check(message, certificate, signed, true)
            .map(|()| HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
