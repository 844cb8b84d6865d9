//! Enrolment at a gateway with a one-time join token, over HTTPS.
//!
//! The private key is generated here and never sent. The gateway is authenticated by the system's
//! certificate authorities, by an authority from a file, or by the SHA-256 of its certificate (from
//! the join command): then only that certificate is accepted.

use super::state::Identity;
use crate::domain::HostId;
use crate::domain::secret::SecretString;
use crate::tunnel::PrivateKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longest enrolment.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Largest response, in bytes.
const RESPONSE_MAX: usize = 64 * 1024;

/// How the gateway's certificate is verified.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The authorities in a PEM file.
    Authorities(PathBuf),
    /// One certificate, by its SHA-256.
    Certificate([u8; 32]),
    /// The system's authorities.
    System,
}

#[derive(Debug)]
pub struct Enrollment {
    /// The gateway's address, `https://host[:port]`.
    pub gateway: String,
    pub token: SecretString,
    pub name: String,
    pub trust: Trust,
}

#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    #[error("the gateway's address must begin with https://")]
    NotHttps,
    #[error("no certificate could be read from {0}")]
    NoAuthorities(PathBuf),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The gateway was not reached, or its certificate was not accepted.
    #[error("the gateway was not reached: {0}")]
    Http(String),
    #[error("the gateway refused ({status}): {detail}")]
    Refused { status: u16, detail: String },
    #[error("the gateway's answer makes no sense")]
    InvalidResponse,
    #[error("no randomness to make a key from")]
    NoRandomness,
}

#[derive(Serialize)]
struct EnrollRequest<'a> {
    token: &'a str,
    name: &'a str,
    public_key: String,
    version: &'static str,
}

#[derive(Deserialize)]
struct EnrollResponse {
    host_id: HostId,
    name: String,
    host_address: IpAddr,
    gateway_address: IpAddr,
    gateway_public_key: String,
    gateway_endpoint: String,
    preshared_key: SecretString,
}

/// Enrols. A token works once.
///
/// # Errors
/// [`EnrollError`].
pub async fn enroll(enrollment: &Enrollment) -> Result<Identity, EnrollError> {
    let base = enrollment.gateway.trim_end_matches('/');
    if !base.starts_with("https://") {
        return Err(EnrollError::NotHttps);
    }
    let private_key = PrivateKey::generate().map_err(|_| EnrollError::NoRandomness)?;
    let request = EnrollRequest {
        token: enrollment.token.expose(),
        name: &enrollment.name,
        public_key: private_key.public_key().to_string(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let client = client(&enrollment.trust)?;
    let mut response = client
        .post(format!("{base}/api/hosts/enroll"))
        .json(&request)
        .send()
        .await
        .map_err(http_error)?;
    let status = response.status();
    let mut body = zeroize::Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(http_error)? {
        if body.len() + chunk.len() > RESPONSE_MAX {
            return Err(EnrollError::InvalidResponse);
        }
        body.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        let body: Option<super::control::ErrorBody> = serde_json::from_slice(&body).ok();
        let detail = body.map_or_else(
            || "no reason given".to_owned(),
            |body| body.detail.chars().filter(|c| !c.is_control()).take(300).collect(),
        );
        return Err(EnrollError::Refused { status: status.as_u16(), detail });
    }
    let answer: EnrollResponse =
        serde_json::from_slice(&body).map_err(|_| EnrollError::InvalidResponse)?;
    let invalid = |_| EnrollError::InvalidResponse;
    Ok(Identity {
        host_id: answer.host_id,
        name: answer.name,
        private_key,
        gateway_public_key: answer.gateway_public_key.parse().map_err(invalid)?,
        gateway_endpoint: answer.gateway_endpoint,
        preshared_key: answer.preshared_key.expose().parse().map_err(invalid)?,
        host_address: answer.host_address,
        gateway_address: answer.gateway_address,
    })
}

/// The whole chain of causes: the outermost error does not mention certificates.
fn http_error(error: reqwest::Error) -> EnrollError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    EnrollError::Http(text)
}

fn client(trust: &Trust) -> Result<reqwest::Client, EnrollError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let config = match trust {
        Trust::Certificate(sha256) => {
            let pin = PinnedCertificateVerifier { sha256: *sha256, provider };
            config.dangerous().with_custom_certificate_verifier(Arc::new(pin)).with_no_client_auth()
        }
        Trust::Authorities(path) => {
            config.with_root_certificates(load_root_store(path)?).with_no_client_auth()
        }
        Trust::System => config
            .with_root_certificates(load_root_store(std::path::Path::new(SYSTEM_CA_BUNDLE))?)
            .with_no_client_auth(),
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .map_err(http_error)
}

/// Debian's bundle of trusted authorities.
const SYSTEM_CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

fn load_root_store(path: &std::path::Path) -> Result<RootCertStore, EnrollError> {
    let unusable = || EnrollError::NoAuthorities(path.to_path_buf());
    let mut store = RootCertStore::empty();
    // A certificate that does not parse is skipped.
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unusable())?.flatten() {
        let _ = store.add(certificate);
    }
    if store.is_empty() { Err(unusable()) } else { Ok(store) }
}

/// Accepts one certificate. The handshake's signature still proves that the server has its key.
#[derive(Debug)]
struct PinnedCertificateVerifier {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Sha256::digest(end_entity.as_ref()).as_slice() == self.sha256 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
