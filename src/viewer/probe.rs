//! Readiness probe of a web application, once at launch: before its page is opened, and without
//! anything of the user's.
//!
//! The request is `GET` of the start path, the same that a browser begins with, without credentials
//! and identity. Some servers refuse `HEAD`, many refuse `OPTIONS *`; `GET` is safe (RFC 9110
//! section 9.2.1) and refused by none. **Any status line counts**, also 4xx and 5xx: an application
//! that asks for a sign-in or reports an error is reachable, and its own page explains more than
//! the gateway could.
//!
//! By HTTPS the certificate must satisfy the workspace's trust rule. Nothing is pinned here: that
//! happens when a stream is opened.

use super::stream_audit::{CertificateCheck, PresentedCertificate, StreamAudit, TransferRefusal};
use super::stream_end::StreamEnd;
use super::trust::{self, connect_tls};
use crate::broker::ports::host_fleet::ProbeFailure;
use crate::domain::Result as Recorded;
use crate::domain::sync::lock;
use crate::domain::upstream::UpstreamTrust;
use crate::domain::web_app::{Scheme, WebAppConfig};
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Length of a status line up to the code (RFC 9112 section 4): `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;
/// First bytes of a TLS alert, major version 3 (RFC 8446 section 5.1).
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// What is requested, and what the application must prove.
#[derive(Clone, Copy)]
pub struct HttpProbe<'a> {
    pub config: &'a WebAppConfig,
    /// Its certificate must satisfy this, by HTTPS.
    pub trust: &'a UpstreamTrust,
    /// Address that was dialled; used as its name where it has none.
    pub address: IpAddr,
    /// Time limit of the whole probe.
    pub timeout: Duration,
}

/// Probes an application on an open connection.
///
/// # Errors
/// What it did instead of answering.
pub async fn probe_http<S>(stream: S, expected: HttpProbe<'_>) -> Result<(), ProbeFailure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    timeout(expected.timeout, run_probe(stream, expected)).await.unwrap_or(Err(ProbeFailure::Slow))
}

async fn run_probe<S>(stream: S, expected: HttpProbe<'_>) -> Result<(), ProbeFailure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let name = host_name(&expected.config.host);
    match expected.config.scheme {
        Scheme::Http => send_get(stream, &expected).await,
        Scheme::Https => {
            let recorder = CertificateRecorder::new(expected.trust);
            let server = trust::ExpectedServer {
                trust: expected.trust,
                address: expected.address,
                name,
                timeout: expected.timeout,
            };
            match connect_tls(stream, server, &recorder).await {
                Ok(upstream) => send_get(upstream.stream, &expected).await,
                Err(end) => Err(recorder.probe_failure(end)),
            }
        }
    }
}

/// The host of `name`, `name:port` or `[address]:port`.
#[must_use]
pub fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

async fn send_get<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    expected: &HttpProbe<'_>,
) -> Result<(), ProbeFailure> {
    let WebAppConfig { start, host, .. } = expected.config;
    let host = if host.is_empty() { url_host(expected.address) } else { host.clone() };
    let request = format!(
        "GET {start} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: portcullis/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    // An application that closes before it has read everything may have answered all the same.
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = stream.flush().await;
    let mut line = [0; STATUS_LINE];
    let mut read = 0;
    while let Some(room) = line.get_mut(read..).filter(|room| !room.is_empty()) {
        match stream.read(room).await {
            Ok(0) | Err(_) => break,
            Ok(n) => read += n,
        }
    }
    let answer = line.get(..read).unwrap_or_default();
    match answer {
        [] => Err(ProbeFailure::Closed),
        answer if is_status_line(answer) => Ok(()),
        answer if answer.starts_with(&TLS_ALERT) => Err(ProbeFailure::Tls),
        _ => Err(ProbeFailure::NotHttp),
    }
}

fn is_status_line(answer: &[u8]) -> bool {
    match answer {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', code @ ..] => {
            minor.is_ascii_digit()
                && code.len() == 3
                && code.iter().all(u8::is_ascii_digit)
                && matches!(code.first(), Some(b'1'..=b'5'))
        }
        _ => false,
    }
}

fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Records the certificate of the application, and whether it is refused. No audit entry is written
/// here; the launch writes it.
struct CertificateRecorder {
    pin: Option<crate::domain::upstream::Fingerprint>,
    certificate: Mutex<Option<PresentedCertificate>>,
}

impl CertificateRecorder {
    fn new(trust: &UpstreamTrust) -> Self {
        Self { pin: trust.pin, certificate: Mutex::default() }
    }

    fn record(&self, certificate: &PresentedCertificate) {
        *lock(&self.certificate) = Some(certificate.clone());
    }

    fn probe_failure(self, end: StreamEnd) -> ProbeFailure {
        let certificate = self.certificate.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (end, certificate) {
            (StreamEnd::CertificateRefused(why), Some(certificate)) => {
                ProbeFailure::Certificate { certificate, reason: why }
            }
            (StreamEnd::TlsFailed(error), _) if error.kind() == io::ErrorKind::TimedOut => {
                ProbeFailure::Slow
            }
            (StreamEnd::TlsFailed(error), _) => ProbeFailure::NoTls(error.to_string()),
            (other, _) => ProbeFailure::NoTls(other.reason_code().to_owned()),
        }
    }
}

impl StreamAudit for CertificateRecorder {
    async fn check_certificate(
        &self,
        certificate: &PresentedCertificate,
    ) -> Recorded<CertificateCheck> {
        self.record(certificate);
        Ok(if self.pin.is_none_or(|pin| pin == certificate.fingerprint) {
            CertificateCheck::Trusted
        } else {
            CertificateCheck::Refused
        })
    }

    async fn certificate_refused(
        &self,
        certificate: &PresentedCertificate,
        _: &'static str,
    ) -> Recorded<()> {
        self.record(certificate);
        Ok(())
    }

    async fn login_refused(&self, _: &'static str) -> Recorded<()> {
        Ok(())
    }

    async fn destination_refused(&self, _: &str) -> Recorded<()> {
        Ok(())
    }

    async fn transfer_refused(&self, _: &TransferRefusal) -> Recorded<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    async fn probe_with_answer(answer: &[u8]) -> (Result<(), ProbeFailure>, String) {
        let (near, mut far) = tokio::io::duplex(4096);
        let config = WebAppConfig {
            start: "/lab?x=1".to_owned(),
            host: "erp.example".to_owned(),
            ..WebAppConfig::default()
        };
        let trust = UpstreamTrust::default();
        let expected = HttpProbe {
            config: &config,
            trust: &trust,
            address: Ipv4Addr::LOCALHOST.into(),
            timeout: Duration::from_secs(60),
        };
        let app = async {
            let mut request = vec![0; 4096];
            let n = far.read(&mut request).await.unwrap();
            request.truncate(n);
            far.write_all(answer).await.unwrap();
            drop(far);
            String::from_utf8(request).unwrap()
        };
        tokio::join!(probe_http(near, expected), app)
    }

    #[tokio::test]
    async fn only_a_status_line_counts_as_an_answer() {
        for good in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 404 Not Found\r\n",
            "HTTP/1.1 503 \r\n",
            "HTTP/1.1 103 Early Hints\r\n",
        ] {
            let (result, request) = probe_with_answer(good.as_bytes()).await;
            assert_eq!(result, Ok(()), "{good}");
            assert!(
                request.starts_with("GET /lab?x=1 HTTP/1.1\r\nHost: erp.example\r\n")
                    && request.ends_with("\r\n\r\n"),
                "{request}"
            );
        }
        for (bad, failure) in [
            (&b""[..], ProbeFailure::Closed),
            (b"RFB 003.008\n", ProbeFailure::NotHttp),
            (b"HTTP/2 200\r\n", ProbeFailure::NotHttp),
            (b"HTTP/1.1 999 x\r\n", ProbeFailure::NotHttp),
            (b"HTTP/1.1", ProbeFailure::NotHttp),
            (&[0x15, 3, 1, 0, 2, 2, 70], ProbeFailure::Tls),
        ] {
            assert_eq!(probe_with_answer(bad).await.0, Err(failure), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn an_application_without_an_answer_is_slow() {
        let (near, _far) = tokio::io::duplex(4096);
        let (config, trust) = (WebAppConfig::default(), UpstreamTrust::default());
        let expected = HttpProbe {
            config: &config,
            trust: &trust,
            address: Ipv4Addr::LOCALHOST.into(),
            timeout: Duration::from_millis(50),
        };
        assert_eq!(probe_http(near, expected).await, Err(ProbeFailure::Slow));
    }

    #[test]
    fn the_host_name_is_without_port() {
        for (host, name) in [
            ("", ""),
            ("erp", "erp"),
            ("erp:8443", "erp"),
            ("[::1]:8443", "::1"),
            ("192.0.2.1:1", "192.0.2.1"),
        ] {
            assert_eq!(host_name(host), name);
        }
    }
}
