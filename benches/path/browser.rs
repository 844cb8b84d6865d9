//! A minimal browser: WebSocket over TLS, binary frames, and no copies that would distort the
//! measurement.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::desktop::SERVER_INIT;
use crate::{Outcome, fail};

/// Bytes of a response head or of a small message.
const MAX_HEAD: usize = 16 << 10;

/// Accepts any certificate: only loopback is measured here.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Clone)]
pub struct BrowserConnector {
    tls: TlsConnector,
}

impl BrowserConnector {
    pub fn new() -> Outcome<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Opens a connection to a server of this name.
    pub async fn connect(&self, to: SocketAddr, name: &str) -> Outcome<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        Ok(self.tls.connect(ServerName::try_from(name.to_owned())?, tcp).await?)
    }

    /// Opens a WebSocket.
    pub async fn open(&self, to: SocketAddr, path: &str) -> Outcome<Browser> {
        let mut tls = self.connect(to, "localhost").await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: binary\r\n\r\n"
        );
        tls.write_all(request.as_bytes()).await?;
        tls.flush().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > MAX_HEAD {
                return Err(fail("an endless head"));
            }
            head.push(tls.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(fail(format!(
                "no WebSocket: {}",
                String::from_utf8_lossy(&head).lines().next().unwrap_or_default()
            )));
        }
        Ok(Browser { tls })
    }

    /// Opens a session's stream, completes the RFB handshake as a client, and sends `letter` to the
    /// desktop.
    pub async fn open_rfb(&self, to: SocketAddr, path: &str, letter: u8) -> Outcome<Browser> {
        let mut browser = self.open(to, path).await?;
        browser.read_exact(12).await?;
        browser.send(b"RFB 003.008\n").await?;
        browser.read_exact(2).await?;
        browser.send(&[1]).await?;
        browser.read_exact(4).await?;
        browser.send(&[1]).await?;
        browser.read_exact(SERVER_INIT.len()).await?;
        browser.send(&[letter]).await?;
        Ok(browser)
    }
}

/// An open WebSocket.
pub struct Browser {
    tls: TlsStream<TcpStream>,
}

impl Browser {
    /// Sends one small binary frame, masked with zeros: any masking key is valid (RFC 6455
    /// section 5.3).
    pub async fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.write_frame(2, bytes).await
    }

    async fn write_frame(&mut self, opcode: u8, bytes: &[u8]) -> Outcome<()> {
        let length =
            u8::try_from(bytes.len()).ok().filter(|n| *n < 126).ok_or_else(|| fail("not small"))?;
        let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(bytes);
        self.tls.write_all(&frame).await?;
        self.tls.flush().await?;
        Ok(())
    }

    /// The header of the next frame: opcode and length.
    async fn read_header(&mut self) -> Outcome<(u8, usize)> {
        let mut head = [0; 2];
        self.tls.read_exact(&mut head).await?;
        let length = match head[1] & 0x7f {
            126 => usize::from(self.tls.read_u16().await?),
            127 => usize::try_from(self.tls.read_u64().await?)?,
            n => usize::from(n),
        };
        Ok((head[0] & 0x0f, length))
    }

    /// Reads `n` bytes of the stream; pings are answered.
    pub async fn read_exact(&mut self, n: usize) -> Outcome<()> {
        let mut got = 0;
        let mut small = [0; 512];
        while got < n {
            let (opcode, length) = self.read_header().await?;
            let body = small.get_mut(..length).ok_or_else(|| fail("a large frame"))?;
            self.tls.read_exact(body).await?;
            match opcode {
                0..=2 => got += length,
                9 => {
                    let body = body.to_vec();
                    self.write_frame(10, &body).await?;
                }
                8 => return Err(fail("closed by the gateway")),
                _ => {}
            }
        }
        if got == n { Ok(()) } else { Err(fail("more than expected")) }
    }

    /// Sends `n` bytes and waits until they are back.
    pub async fn round_trip(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.send(bytes).await?;
        self.read_exact(bytes.len()).await
    }

    /// Discards everything received, frame by frame, and adds its size to `count`.
    pub async fn discard_all(mut self, count: Arc<std::sync::atomic::AtomicU64>) -> Outcome<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let (opcode, mut length) = self.read_header().await?;
            match opcode {
                0..=2 => {
                    while length > 0 {
                        let room = length.min(buffer.len());
                        let n = self.tls.read(&mut buffer[..room]).await?;
                        if n == 0 {
                            return Err(fail("cut"));
                        }
                        length -= n;
                        count.fetch_add(n as u64, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                9 => {
                    let body = buffer.get_mut(..length).ok_or_else(|| fail("a large ping"))?;
                    self.tls.read_exact(body).await?;
                    let body = body.to_vec();
                    self.write_frame(10, &body).await?;
                }
                8 => return Err(fail("closed by the gateway")),
                _ => return Err(fail("an odd frame")),
            }
        }
    }
}
