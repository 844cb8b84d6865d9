//! An application that records every request and parses them with a lenient parser of its own,
//! which accepts either of two framings.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use portcullis::domain::lease::Lease;
use portcullis::viewer::{Dial, Duplex};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as received.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// Request line and header lines, with their line ends.
    pub head: String,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl ReceivedRequest {
    /// Values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
    }

    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// Received requests, and the progress of endless responses.
#[derive(Default)]
struct RequestRecorder {
    seen: Mutex<Vec<ReceivedRequest>>,
    written: AtomicU64,
    broken: AtomicU64,
}

pub struct Application {
    address: SocketAddr,
    log: Arc<RequestRecorder>,
    task: JoinHandle<()>,
}

impl Application {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, log) = (listener.local_addr().unwrap(), Arc::<RequestRecorder>::default());
        let kept = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&kept);
                tokio::spawn(async move { drop(serve(stream, log).await) });
            }
        });
        Self { address, log, task }
    }

    pub fn dial(&self) -> ApplicationDial {
        ApplicationDial(self.address)
    }

    /// All requests received.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.log.seen.lock().unwrap().clone()
    }

    /// Requests received since the last call.
    pub fn take_requests(&self) -> Vec<ReceivedRequest> {
        std::mem::take(&mut self.log.seen.lock().unwrap())
    }

    /// Bytes of endless responses so far: received ones and those in buffers on the path.
    pub fn written(&self) -> u64 {
        self.log.written.load(Ordering::SeqCst)
    }

    /// How many endless responses have lost their connection.
    pub fn broken(&self) -> u64 {
        self.log.broken.load(Ordering::SeqCst)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, log: Arc<RequestRecorder>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await? == 0 {
                return Ok(());
            }
        }
        let mut seen =
            ReceivedRequest { head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new() };
        let length = seen.all("content-length").first().and_then(|v| v.parse::<usize>().ok());
        if !seen.all("transfer-encoding").is_empty() {
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await?;
                let size =
                    usize::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16)
                        .unwrap_or(0);
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk).await?;
                if size == 0 {
                    break;
                }
                seen.body.extend_from_slice(&chunk[..size]);
            }
        } else if let Some(length) = length {
            seen.body = vec![0; length];
            stream.read_exact(&mut seen.body).await?;
        }
        let is_head = seen.line().starts_with("HEAD ");
        let is_endless = seen.line().starts_with("GET /endless ");
        log.seen.lock().unwrap().push(seen);
        if is_endless {
            return endless(&mut stream, &log).await;
        }
        let body = if is_head { "" } else { "application" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Frame-Options: DENY\r\nSet-Cookie: own=1; Domain={}\r\n\r\n{body}",
            crate::support::app::APPS_DOMAIN
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Sends a response without an end.
async fn endless(stream: &mut BufReader<TcpStream>, log: &RequestRecorder) -> io::Result<()> {
    let chunk = [&b"8000\r\n"[..], &[b'x'; 0x8000], b"\r\n"].concat();
    let write = async {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        loop {
            stream.write_all(&chunk).await?;
            log.written.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        }
    };
    let lost: io::Result<()> = write.await;
    log.broken.fetch_add(1, Ordering::SeqCst);
    lost
}

/// Dials the application for every lease.
pub struct ApplicationDial(SocketAddr);

impl Dial for ApplicationDial {
    fn dial<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        async move { Ok(Box::new(TcpStream::connect(self.0).await?) as Box<dyn Duplex>) }.boxed()
    }
}
