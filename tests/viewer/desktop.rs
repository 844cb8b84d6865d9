//! A real desktop: Xtigervnc, reached over a unix socket, with the viewer in between.

use super::harness::{BrowserMessage, FnDialer, Harness, lease_to, server};
use super::recording_audit::RecordingAudit;
use crate::support::pdeathsig::pdeathsig_command;
use crate::support::vnc::VncClient;
use crate::support::wait::within_blocking;
use futures_util::future::FutureExt;
use portcullis::domain::OrganizationId;
use portcullis::domain::upstream::Upstream;
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::viewer::browser::BrowserEvent;
use portcullis::viewer::{Duplex, Timeouts};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// "vncpass1" as `tigervncpasswd -f` writes it.
const PASSWORD_FILE: [u8; 8] = [0x26, 0x5a, 0x14, 0xa0, 0x71, 0x8c, 0xeb, 0x37];
/// Time limit of any step, on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A running X server; terminated on drop.
pub struct Desktop {
    pub directory: TempDir,
    pub display: String,
    server: Child,
}

impl Drop for Desktop {
    /// Sends SIGTERM and waits, so that the server removes its lock files; `kill_on_drop` handles a
    /// server that ignores it.
    fn drop(&mut self) {
        let pid = self.server.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        let _ = kill_process(pid, Signal::TERM);
        within_blocking(Duration::from_secs(5), || !matches!(self.server.try_wait(), Ok(None)));
    }
}

impl Desktop {
    /// VncAuth with the password of every lease here.
    pub async fn start() -> Self {
        Self::with(&["-SecurityTypes", "VncAuth"]).await
    }

    /// With additional options. `{}` stands for its directory, in which `passwd` is the password
    /// file.
    pub async fn with(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[], options).await
    }

    /// In a directory with the files that the options name, with these environment variables.
    pub async fn start_in(
        directory: TempDir,
        variables: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let here = directory.path().display().to_string();
        let password = directory.path().join("passwd");
        std::fs::write(&password, PASSWORD_FILE).unwrap();
        let mut server = pdeathsig_command("Xtigervnc")
            .args([
                "-displayfd",
                "1",
                "-rfbport",
                "-1",
                "-geometry",
                "640x480",
                "-depth",
                "24",
                "-nolisten",
                "tcp",
                "-desktop",
                "Linux Desktop",
            ])
            .arg("-rfbunixpath")
            .arg(directory.path().join("rfb.sock"))
            .arg("-PasswordFile")
            .arg(&password)
            .args(options.iter().map(|option| option.replace("{}", &here)))
            .envs(variables.iter().map(|(name, value)| (name, value.replace("{}", &here))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Xtigervnc is installed (tigervnc-standalone-server)");
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let number = timeout(TIMEOUT, lines.next_line())
            .await
            .expect("it starts")
            .unwrap()
            .expect("it says its display");
        Self { directory, display: format!(":{}", number.trim()), server }
    }

    /// Runs a program on it.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Child {
        let mut command = pdeathsig_command(program);
        command
            .args(arguments)
            .env("DISPLAY", &self.display)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"))
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// A stream to it through the viewer, with the default lease.
    pub fn attach(&self) -> Harness {
        self.attach_as(server(), RecordingAudit::default())
    }

    /// The same with another lease.
    pub fn attach_as(&self, server: Upstream, audit: RecordingAudit) -> Harness {
        let socket = self.path("rfb.sock");
        let dial = FnDialer(move || {
            let socket = socket.clone();
            async move { Ok(Box::new(UnixStream::connect(socket).await?) as Box<dyn Duplex>) }
                .boxed()
        });
        let lease = lease_to(OrganizationId::new(), WorkspaceKind::Vnc, server);
        let timeouts = Timeouts {
            dial: TIMEOUT,
            handshake: TIMEOUT,
            pong: 3 * TIMEOUT,
            desktop_write: 3 * TIMEOUT,
            ..Timeouts::default()
        };
        Harness::with_lease(lease, dial, mpsc::unbounded_channel().1, timeouts, audit)
    }

    /// A stream to it through the viewer, and its client.
    pub async fn open(&self) -> (Harness, VncClient<DuplexStream>) {
        self.open_as(server(), RecordingAudit::default()).await
    }

    /// The same with another lease.
    pub async fn open_as(
        &self,
        server: Upstream,
        audit: RecordingAudit,
    ) -> (Harness, VncClient<DuplexStream>) {
        let mut harness = self.attach_as(server, audit);
        let stream = browser_stream(&mut harness);
        match timeout(TIMEOUT, VncClient::connect(stream)).await.expect("it answers") {
            Ok(client) => (harness, client),
            Err(error) => panic!("{error}: {:?}", harness.end.await),
        }
    }
}

/// The browser's end of a harness as a byte stream.
pub fn browser_stream(harness: &mut Harness) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut reader, mut writer) = tokio::io::split(far);
    let mut output = std::mem::replace(&mut harness.browser.sent, tokio::sync::mpsc::channel(1).1);
    let (browser_input, pong) = (harness.browser.input.clone(), harness.browser.input.clone());
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            let _ = browser_input.send(Ok(BrowserEvent::Bytes(buffer[..n].to_vec().into()))).await;
        }
    });
    tokio::spawn(async move {
        while let Some(output) = output.recv().await {
            match output {
                BrowserMessage::Bytes(bytes) => drop(writer.write_all(&bytes).await),
                BrowserMessage::Ping(payload) => {
                    drop(pong.try_send(Ok(BrowserEvent::Pong(payload))))
                }
                BrowserMessage::Pong(_) => {}
            }
        }
    });
    near
}
