//! Whether a web application answers, asked once when it is launched: before anybody waits for its
//! page, and without anything of the user's.
//!
//! The question is `GET` of the start path, the very request a browser begins with, without
//! credentials and identity. `HEAD` is refused by some servers and `OPTIONS *` by many; `GET` by
//! none, and it is safe (RFC 9110 section 9.2.1). **Any status line answers**, 4xx and 5xx too: an
//! application that asks for a sign-in, or says in its own words why it is unwell, is there, and
//! its own page tells its users more than we could.
//!
//! By HTTPS the certificate must be one that the workspace's rule takes. Nothing is pinned here:
//! that happens when a stream is opened.

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

/// A status line as far as the code (RFC 9112 section 4): `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;
/// How an answer in TLS begins: an alert, version 3 (RFC 8446 section 5.1).
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// What the application is asked, and what it must be.
#[derive(Clone, Copy)]
pub struct HttpProbe<'a> {
    /// How it is met.
    pub config: &'a WebAppConfig,
    /// Whom it must prove to be, by HTTPS.
    pub trust: &'a UpstreamTrust,
    /// Where it was dialled; its name, where it has none.
    pub address: IpAddr,
    /// How long it may take.
    pub timeout: Duration,
}

/// Asks an application whether it is there, on a connection to it.
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
            let shown = CertificateRecorder::new(expected.trust);
            let server = trust::ExpectedServer {
                trust: expected.trust,
                address: expected.address,
                name,
                timeout: expected.timeout,
            };
            match connect_tls(stream, server, &shown).await {
                Ok(secured) => send_get(secured.stream, &expected).await,
                Err(end) => Err(shown.probe_failure(end)),
            }
        }
    }
}

/// The name of `name`, `name:port` or `[address]:port`.
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
    // One that hangs up before it has read all may have answered all the same.
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
    let said = line.get(..read).unwrap_or_default();
    match said {
        [] => Err(ProbeFailure::Closed),
        said if is_status_line(said) => Ok(()),
        said if said.starts_with(&TLS_ALERT) => Err(ProbeFailure::Tls),
        _ => Err(ProbeFailure::NotHttp),
    }
}

fn is_status_line(said: &[u8]) -> bool {
    match said {
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

/// The certificate that was shown, and whether it is refused: no entry is made of it here, the
/// launch makes it.
struct CertificateRecorder {
    pin: Option<crate::domain::upstream::Fingerprint>,
    seen: Mutex<Option<PresentedCertificate>>,
}

impl CertificateRecorder {
    fn new(trust: &UpstreamTrust) -> Self {
        Self { pin: trust.pin, seen: Mutex::default() }
    }

    fn record(&self, seen: &PresentedCertificate) {
        *lock(&self.seen) = Some(seen.clone());
    }

    fn probe_failure(self, end: StreamEnd) -> ProbeFailure {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (end, seen) {
            (StreamEnd::CertificateRefused(why), Some(seen)) => {
                ProbeFailure::Certificate { certificate: seen, reason: why }
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
    async fn check_certificate(&self, seen: &PresentedCertificate) -> Recorded<CertificateCheck> {
        self.record(seen);
        Ok(if self.pin.is_none_or(|must| must == seen.fingerprint) {
            CertificateCheck::Trusted
        } else {
            CertificateCheck::Refused
        })
    }

    async fn certificate_refused(
        &self,
        seen: &PresentedCertificate,
        _: &'static str,
    ) -> Recorded<()> {
        self.record(seen);
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
        let terms = WebAppConfig {
            start: "/lab?x=1".to_owned(),
            host: "erp.example".to_owned(),
            ..WebAppConfig::default()
        };
        let trust = UpstreamTrust::default();
        let expected = HttpProbe {
            config: &terms,
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
    async fn any_status_line_answers_and_nothing_else_does() {
        for good in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 404 Not Found\r\n",
            "HTTP/1.1 503 \r\n",
            "HTTP/1.1 103 Early Hints\r\n",
        ] {
            let (told, request) = probe_with_answer(good.as_bytes()).await;
            assert_eq!(told, Ok(()), "{good}");
            assert!(
                request.starts_with("GET /lab?x=1 HTTP/1.1\r\nHost: erp.example\r\n")
                    && request.ends_with("\r\n\r\n"),
                "{request}"
            );
        }
        for (bad, how) in [
            (&b""[..], ProbeFailure::Closed),
            (b"RFB 003.008\n", ProbeFailure::NotHttp),
            (b"HTTP/2 200\r\n", ProbeFailure::NotHttp),
            (b"HTTP/1.1 999 x\r\n", ProbeFailure::NotHttp),
            (b"HTTP/1.1", ProbeFailure::NotHttp),
            (&[0x15, 3, 1, 0, 2, 2, 70], ProbeFailure::Tls),
        ] {
            assert_eq!(probe_with_answer(bad).await.0, Err(how), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn one_that_says_nothing_is_slow() {
        let (near, _far) = tokio::io::duplex(4096);
        let (terms, trust) = (WebAppConfig::default(), UpstreamTrust::default());
        let expected = HttpProbe {
            config: &terms,
            trust: &trust,
            address: Ipv4Addr::LOCALHOST.into(),
            timeout: Duration::from_millis(50),
        };
        assert_eq!(probe_http(near, expected).await, Err(ProbeFailure::Slow));
    }

    #[test]
    fn names_stand_before_ports() {
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
