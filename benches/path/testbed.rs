//! The house under measurement: this program's own processes, started, asked and ended.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::browser::BrowserConnector;
use crate::desktop::FakeDesktop;
use crate::{Outcome, fail};

/// Longest wait for an answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(300);

/// One of our processes. Ends when this is dropped.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    pub pid: u32,
}

impl Process {
    /// Starts one, and waits for its first line.
    pub async fn start(arguments: &[String]) -> Outcome<(Self, String)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or_else(|| fail("a process that ended at once"))?;
        let orders = child.stdin.take().ok_or_else(|| fail("no pipe"))?;
        let answers = BufReader::new(child.stdout.take().ok_or_else(|| fail("no pipe"))?).lines();
        let mut process = Self { child, stdin: orders, replies: answers, pid };
        let first = process.read_reply().await?;
        Ok((process, first))
    }

    async fn read_reply(&mut self) -> Outcome<String> {
        let line = timeout(REPLY_TIMEOUT, self.replies.next_line())
            .await
            .map_err(|_| fail("no answer from a process of the house"))??;
        line.ok_or_else(|| fail("a process of the house ended"))
    }

    /// Gives an order, waits for the answer.
    pub async fn request(&mut self, order: &str) -> Outcome<String> {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await?;
        self.stdin.flush().await?;
        self.read_reply().await
    }

    /// Ends it.
    pub async fn shutdown(mut self) {
        drop(self.stdin);
        if timeout(Duration::from_secs(2), self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

#[derive(Deserialize)]
struct Ready {
    https: SocketAddr,
    udp: SocketAddr,
    cert: PathBuf,
    key: PathBuf,
}

/// What launches came to.
#[derive(Deserialize)]
pub struct LaunchTimes {
    pub failed: usize,
    pub seconds: f64,
    pub us: Vec<u64>,
}

/// A gateway, an agent, a desktop, and browsers.
pub struct Testbed {
    pub gateway: Process,
    pub agent: Process,
    pub desktop: FakeDesktop,
    pub connector: BrowserConnector,
    pub https: SocketAddr,
    pub udp: SocketAddr,
    /// Certificate and key of the gateway, for peers that serve TLS.
    pub certificate: (PathBuf, PathBuf),
}

impl Testbed {
    pub async fn start() -> Outcome<Self> {
        let desktop = FakeDesktop::start().await?;
        let (agent, at) = Process::start(&["agent".into(), desktop.rfb.to_string()]).await?;
        let (gateway, ready) = Process::start(&["gateway".into(), at, "2".into()]).await?;
        let ready: Ready = serde_json::from_str(&ready)?;
        Ok(Self {
            gateway,
            agent,
            desktop,
            connector: BrowserConnector::new()?,
            https: ready.https,
            udp: ready.udp,
            certificate: (ready.cert, ready.key),
        })
    }

    pub async fn shutdown(self) {
        self.gateway.shutdown().await;
        self.agent.shutdown().await;
    }

    /// Launches sessions `from..from + count`.
    pub async fn launch(&mut self, from: u64, count: u64, at_once: u64) -> Outcome<LaunchTimes> {
        Ok(serde_json::from_str(
            &self.gateway.request(&format!("launch {from} {count} {at_once}")).await?,
        )?)
    }
}
