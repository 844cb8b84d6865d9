//! HTTP/2 by hand (RFC 9113): frames that no client library sends, on a TLS connection from an
//! address of the test's choice.

use super::app::TestApp;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// Longer than any wait on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// A TCP connection from an address of loopback, such as 127.0.0.2.
pub async fn connect_from(last: u8, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await
}

/// A TLS connection from there to a server name.
pub async fn tls_from(
    app: &TestApp,
    last: u8,
    name: &str,
    alpn: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let mut tls = (*app.tls).clone();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let tcp = connect_from(last, app.port).await?;
    tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await
}

/// A frame from the server.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A connection whose frames the test writes and reads.
pub struct RawHttp2 {
    pub tls: TlsStream<TcpStream>,
    /// The value of `:authority`.
    authority: String,
}

impl RawHttp2 {
    /// Connects from 127.0.0.`last`, and sends the preface and empty settings.
    pub async fn connect(app: &TestApp, last: u8, name: &str) -> io::Result<Self> {
        let mut tls = tls_from(app, last, name, b"h2").await?;
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
        Ok(Self { tls, authority: format!("{name}:{}", app.port) })
    }

    pub async fn send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.tls.write_all(&frame).await
    }

    /// The header block of a request, without Huffman coding.
    pub fn head(&self, method: &str, path: &str) -> Vec<u8> {
        // :scheme https is entry 7 of the static table (RFC 7541 appendix A).
        let mut block = vec![0x87];
        for (name, value) in [(1, self.authority.as_str()), (2, method), (4, path)] {
            block.push(name);
            block.extend(string(value.as_bytes()));
        }
        block
    }

    /// The next frame that is no acknowledged SETTINGS or PING; `None`: the connection has ended.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.tls.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.tls.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            let is_answer = frame.flags & ACK != 0;
            match frame.kind {
                SETTINGS if !is_answer => {
                    drop(self.send(SETTINGS, ACK, 0, &[]).await);
                    return Some(frame);
                }
                PING if !is_answer => drop(self.send(PING, ACK, 0, &frame.payload).await),
                SETTINGS | PING => {}
                _ => return Some(frame),
            }
        }
    }

    /// Reads until a frame is what is looked for; `None`: the connection ended before.
    pub async fn find(
        &mut self,
        what: &str,
        mut found: impl FnMut(&Frame) -> bool,
    ) -> Option<Frame> {
        let reading = async {
            loop {
                let frame = self.frame().await?;
                if found(&frame) {
                    return Some(frame);
                }
            }
        };
        tokio::time::timeout(TIMEOUT, reading).await.unwrap_or_else(|_| panic!("{what}: never"))
    }

    /// The same; the connection must not end.
    pub async fn until(&mut self, what: &str, found: impl FnMut(&Frame) -> bool) -> Frame {
        let frame = self.find(what, found).await;
        frame.unwrap_or_else(|| panic!("{what}: the connection has ended"))
    }

    /// Reads until the server has closed the connection; returns the last frames.
    pub async fn until_closed(&mut self, what: &str) -> Vec<Frame> {
        let reading = async {
            let mut frames = Vec::new();
            while let Some(frame) = self.frame().await {
                frames.push(frame);
                frames.drain(..frames.len().saturating_sub(100));
            }
            frames
        };
        tokio::time::timeout(TIMEOUT, reading)
            .await
            .unwrap_or_else(|_| panic!("{what}: it is not closed"))
    }

    /// A `GET` on a stream, to the end of the response's head; returns whether it was 200.
    pub async fn get(&mut self, stream: u32, path: &str) -> bool {
        let head = self.head("GET", path);
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &head).await.unwrap();
        let answer = self.until("a response", |f| f.stream == stream && f.kind == HEADERS).await;
        // :status 200 is entry 8 of the static table; it may come after a table size update.
        answer.payload.iter().find(|byte| **byte & 0xe0 != 0x20) == Some(&0x88)
    }
}

/// A field of a header block, not indexed (RFC 7541 section 6.2.2).
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    field.extend(string(name.as_bytes()));
    field.extend(string(value.as_bytes()));
    field
}

/// A string literal (RFC 7541 section 5.2).
pub fn string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match text.len() {
        length @ ..127 => out.push(u8::try_from(length).unwrap()),
        length => {
            out.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                out.push(u8::try_from(rest % 128).unwrap() | 0x80);
                rest /= 128;
            }
            out.push(u8::try_from(rest).unwrap());
        }
    }
    out.extend(text);
    out
}
