//! An application that writes down every byte it is sent, and reads requests by a parser of its own: of two framings it would believe either.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use portcullis::domain::lease::Lease;
use portcullis::viewer::{Dial, Duplex};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and header lines, with their line ends.
    pub head: String,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Seen {
    /// Values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
    }

    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

pub struct Application {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Application {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Seen>>>::default());
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                tokio::spawn(async move { drop(converse(stream, log).await) });
            }
        });
        Self { address, seen, task }
    }

    pub fn dial(&self) -> ToApplication {
        ToApplication(self.address)
    }

    /// Everything it was asked.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// What it was asked since the last time.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, log: Arc<Mutex<Vec<Seen>>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await? == 0 {
                return Ok(());
            }
        }
        let mut seen = Seen { head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new() };
        let length = seen.all("content-length").first().and_then(|v| v.parse::<usize>().ok());
        if !seen.all("transfer-encoding").is_empty() {
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await?;
                let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16).unwrap_or(0);
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
        log.lock().unwrap().push(seen);
        let body = if is_head { "" } else { "application" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Frame-Options: DENY\r\nSet-Cookie: own=1; Domain={}\r\n\r\n{body}",
            crate::support::app::APPS
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Every lease leads to it.
pub struct ToApplication(SocketAddr);

impl Dial for ToApplication {
    fn dial<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        async move { Ok(Box::new(TcpStream::connect(self.0).await?) as Box<dyn Duplex>) }.boxed()
    }
}
