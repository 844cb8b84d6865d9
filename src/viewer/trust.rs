//! TLS to a desktop's server, and whether its certificate is to be trusted.
//!
//! - In the handshake any certificate is taken, also one that no browser would take (self-signed,
//!   expired, X.509 version 1): such are the certificates of desktops. That the server holds its
//!   private key is proved all the same, by its signature.
//! - After the handshake, and before a byte of the protocol inside, the *rule* of the workspace
//!   decides ([`UpstreamTrust`]): the pin, the first certificate met, or authorities.
//!
//! TLS 1.2 and 1.3 only, never resumed: CredSSP forbids resumption ([MS-CSSP] section 3.1.5), and a
//! pin is checked every time.

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

/// Longest subject that is written down, in characters.
const MAX_SUBJECT: usize = 200;

/// A trusted server's stream.
#[derive(Debug)]
pub struct TlsUpstream<S> {
    /// Inside TLS.
    pub stream: TlsStream<S>,
    /// The server's certificates as it sent them, its own first; never empty.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Whom a server must prove to be.
#[derive(Clone, Copy)]
pub struct ExpectedServer<'a> {
    /// The rule and the pin.
    pub trust: &'a UpstreamTrust,
    /// Where it was dialled; told to nobody.
    pub address: IpAddr,
    /// The name it knows itself by, said in the handshake (SNI) unless the rule names another;
    /// empty: none is said.
    pub name: &'a str,
    /// How long the TLS handshake may take.
    pub timeout: Duration,
}

/// Speaks TLS with a server and decides whether to trust it.
///
/// # Errors
/// The [`End`] it means for the stream. What was met and not trusted is written down before.
pub async fn connect_tls<S>(
    stream: S,
    expected: ExpectedServer<'_>,
    books: &impl StreamAudit,
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
    check_trust(&chain, expected.trust, algorithms, books).await?;
    Ok(TlsUpstream { stream, chain })
}

/// What a server name indication says: the name an admin gave; an address says nothing (RFC 6066
/// section 3).
fn server_name(expected: &ExpectedServer<'_>) -> ServerName<'static> {
    let named = match &expected.trust.rule {
        TrustRule::Authority { name: Some(name), .. } => ServerName::try_from(name.clone()).ok(),
        TrustRule::Authority { name: None, .. } | TrustRule::FirstUse | TrustRule::Pinned(_) => {
            None
        }
    };
    let named =
        named.or_else(|| ServerName::try_from(expected.name).map(|name| name.to_owned()).ok());
    named.unwrap_or_else(|| ServerName::IpAddress(expected.address.into()))
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

/// Applies the rule to the certificates a server showed.
async fn check_trust(
    chain: &[CertificateDer<'_>],
    trust: &UpstreamTrust,
    algorithms: WebPkiSupportedAlgorithms,
    books: &impl StreamAudit,
) -> Result<(), StreamEnd> {
    let (own, rest) = chain.split_first().ok_or_else(|| {
        StreamEnd::TlsFailed(io::Error::other("the server showed no certificate"))
    })?;
    let seen = PresentedCertificate {
        fingerprint: Fingerprint(Sha256::digest(own).into()),
        subject: subject(own),
    };
    let why = match &trust.rule {
        TrustRule::FirstUse if trust.pin == Some(seen.fingerprint) => return Ok(()),
        TrustRule::FirstUse => {
            return match books.check_certificate(&seen).await.map_err(StreamEnd::AuditFailed)? {
                CertificateCheck::Trusted => Ok(()),
                CertificateCheck::Refused => Err(StreamEnd::CertificateRefused("changed")),
            };
        }
        TrustRule::Pinned(pin) if *pin == seen.fingerprint => return Ok(()),
        TrustRule::Pinned(_) => "not_the_pinned",
        TrustRule::Authority { roots, name } => {
            match verify_authority(own, rest, (roots, name.as_deref()), algorithms) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            }
        }
    };
    books.certificate_refused(&seen, why).await.map_err(StreamEnd::AuditFailed)?;
    Err(StreamEnd::CertificateRefused(why))
}

/// Whether authorities vouch for a certificate, now, as a server's and for the name.
fn verify_authority(
    own: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    (roots, name): (&str, Option<&str>),
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<(), &'static str> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        let root = root.map_err(|_| "authorities_unreadable")?;
        store.add(root).map_err(|_| "authorities_unreadable")?;
    }
    let parsed = ParsedCertificate::try_from(own).map_err(|_| "unreadable")?;
    verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &store,
        rest,
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

/// Whom a certificate names, safe to print; empty when that cannot be read.
fn subject(certificate: &CertificateDer<'_>) -> String {
    let Ok(parsed) = CertificateInner::<Raw>::from_der(certificate) else { return String::new() };
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    parsed.tbs_certificate().subject().to_string().chars().take(MAX_SUBJECT).map(clean).collect()
}

/// Takes any certificate whose private key the server proves to hold.
#[derive(Debug)]
struct KeyPossessionVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl KeyPossessionVerifier {
    /// As rustls does it, but not by webpki's reader of certificates, which refuses version 1.
    fn check(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        first: bool,
    ) -> Result<(), Error> {
        let bad = |error| Error::InvalidCertificate(error);
        let parsed = CertificateInner::<Raw>::from_der(certificate)
            .map_err(|_| bad(CertificateError::BadEncoding))?;
        let key = parsed.tbs_certificate().subject_public_key_info();
        let algorithm = key.algorithm.to_der().map_err(|_| bad(CertificateError::BadEncoding))?;
        let bits =
            key.subject_public_key.as_bytes().ok_or_else(|| bad(CertificateError::BadEncoding))?;
        let known = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let (_, candidates) = known.ok_or_else(|| bad(CertificateError::BadSignature))?;
        // `AlgorithmIdentifier` of pki-types is without its outer SEQUENCE; those known are short,
        // so tag and length are two bytes.
        let fits = |candidate: &&&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
            algorithm.get(2..) == Some(&*candidate.public_key_alg_id())
        };
        // TLS 1.3 binds a scheme to one algorithm, the first (RFC 8446 section 4.2.3).
        let most = if first { 1 } else { candidates.len() };
        let found = candidates
            .iter()
            .take(most)
            .find(fits)
            .ok_or_else(|| bad(CertificateError::BadSignature))?;
        found
            .verify_signature(bits, message, signed.signature())
            .map_err(|_| bad(CertificateError::BadSignature))
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
        // The rule decides when the handshake is over.
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
