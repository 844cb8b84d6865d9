//! The testbed: processes of this program that play gateway and agent, controlled over pipes.

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

const REPLY_TIMEOUT: Duration = Duration::from_secs(300);

/// A child process. Killed when dropped.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    pub pid: u32,
}

impl Process {
    /// Starts it, and waits for its first line.
    pub async fn start(arguments: &[String]) -> Outcome<(Self, String)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or_else(|| fail("the process ended at once"))?;
        let stdin = child.stdin.take().ok_or_else(|| fail("no pipe"))?;
        let replies = BufReader::new(child.stdout.take().ok_or_else(|| fail("no pipe"))?).lines();
        let mut process = Self { child, stdin, replies, pid };
        let first = process.read_reply().await?;
        Ok((process, first))
    }

    async fn read_reply(&mut self) -> Outcome<String> {
        let line = timeout(REPLY_TIMEOUT, self.replies.next_line())
            .await
            .map_err(|_| fail("no reply from a process of the testbed"))??;
        line.ok_or_else(|| fail("a process of the testbed ended"))
    }

    /// Writes a command and waits for its reply.
    pub async fn request(&mut self, command: &str) -> Outcome<String> {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await?;
        self.stdin.flush().await?;
        self.read_reply().await
    }

    /// Ends it, by closing its input.
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

/// Results of a series of launches; `us` are microseconds of each.
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
    /// Certificate and key of the gateway, for baselines that serve TLS.
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
    pub async fn launch(
        &mut self,
        from: u64,
        count: u64,
        concurrency: u64,
    ) -> Outcome<LaunchTimes> {
        Ok(serde_json::from_str(
            &self.gateway.request(&format!("launch {from} {count} {concurrency}")).await?,
        )?)
    }
}
