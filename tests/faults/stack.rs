//! A production gateway and a workspace host as two processes of their own, on loopback: what
//! `demo` puts into one, apart, so that each can be killed, stopped and started again by itself.
//! Everything ends with the value.

mod client;

use super::processes::{display_servers, signal, terminate};
use crate::product::{BINARY, command};
use crate::support::free_port;
use crate::support::process_guard::{GuardedChild, spawn_guarded};
use crate::support::vnc::{Closed, VncClient, over_websocket};
use crate::support::wait::within;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

/// Longest wait for what should be quick, on a machine that is busy.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// The password of every user here.
pub const PASSWORD: &str = "Sesame-open-8731";
/// The workspace everybody may launch.
pub const WORKSPACE: &str = "ws-desk";

/// An open WebSocket to the gateway.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The two processes, their folder, and a client that trusts the gateway's authority.
pub struct Stack {
    pub dir: PathBuf,
    pub port: u16,
    pub http: reqwest::Client,
    pub tls: Arc<rustls::ClientConfig>,
    /// A folder that the gateway shall have on a file system of its own, of this size.
    pub mount: Option<(PathBuf, &'static str)>,
    settings: Vec<(String, String)>,
    gateway: Option<GuardedChild>,
    agent: Option<GuardedChild>,
    _folder: tempfile::TempDir,
}

/// A signed-in user.
#[derive(Clone)]
pub struct SignedInUser {
    pub id: String,
    pub token: String,
}

impl Stack {
    /// A gateway and a connected host, with users `member`, `other` and `admin` (at example.test)
    /// and one workspace.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With settings of its own (`SECTION__KEY`, value).
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let mut stack = Self::gateway_only(settings).await;
        stack.seed();
        stack.agent_up().await;
        stack
    }

    /// A gateway with nothing in it.
    pub async fn gateway_only(settings: &[(&str, &str)]) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_path_buf();
        let (port, udp) = (free_port(), free_port());
        let mut all: Vec<(String, String)> = [
            ("SERVER__LISTEN", format!("127.0.0.1:{port}")),
            ("SERVER__PUBLIC_URL", format!("https://localhost:{port}")),
            ("SERVER__DATA_DIR", dir.join("gateway").display().to_string()),
            ("TUNNEL__LISTEN", format!("127.0.0.1:{udp}")),
            ("AUTH__MFA_REQUIRED", "false".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        all.retain(|(key, _)| !settings.iter().any(|(k, _)| k == key));
        all.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        // Its certificate is made by its first start: until then nobody can be trusted.
        let nobody = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let mut stack = Self {
            dir,
            port,
            http: reqwest::Client::builder().tls_certs_only([]).build().unwrap(),
            tls: Arc::new(nobody),
            mount: None,
            settings: all,
            gateway: None,
            agent: None,
            _folder: folder,
        };
        stack.gateway_up().await;
        stack
    }

    /// Users, and a workspace.
    pub fn seed(&self) {
        for (name, role) in [("member", "member"), ("other", "member"), ("admin", "admin")] {
            let made = self.cli(
                &["user", "create", &format!("{name}@example.test"), "--role", role],
                &format!("{PASSWORD}\n"),
            );
            assert!(made.status.success(), "{made:?}");
        }
        let made = self.cli(
            &["workspace", "create", WORKSPACE, "--name", "Desk", "--requires-mfa", "false"],
            "",
        );
        assert!(made.status.success(), "{made:?}");
    }

    // --- the gateway ---

    /// The gateway's data folder.
    pub fn data(&self) -> PathBuf {
        self.settings
            .iter()
            .find(|(key, _)| key == "SERVER__DATA_DIR")
            .map(|(_, value)| PathBuf::from(value))
            .unwrap()
    }

    /// What the gateway has written to its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("gateway.log")).unwrap_or_default()
    }

    /// A `portcullis` command with the gateway's settings in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.envs(self.settings.iter().map(|(key, value)| (format!("PORTCULLIS_{key}"), value)));
        command
    }

    /// Starts the gateway and waits until it answers.
    pub async fn gateway_up(&mut self) {
        let log =
            File::options().create(true).append(true).open(self.dir.join("gateway.log")).unwrap();
        let mut command = self.serve();
        self.gateway = Some(
            spawn_guarded(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log)).unwrap(),
        );
        let ca = self.data().join("tls/ca.pem");
        let answers = within(TIMEOUT, async || {
            if let Some(status) = self.gateway.as_mut().unwrap().try_wait().unwrap() {
                panic!("the gateway ended, {status}: {}", self.log());
            }
            let Ok(pem) = std::fs::read(&ca) else { return false };
            self.trust(&pem);
            self.http.get(self.url("/api/health")).send().await.is_ok()
        });
        if answers.await.is_none() {
            panic!("the gateway is not up: {}", self.log());
        }
    }

    /// `portcullis serve`; on a file system of its own when asked for, in a mount namespace that
    /// ends with it.
    fn serve(&self) -> Command {
        let Some((folder, size)) = &self.mount else { return self.command(&["serve"]) };
        const MOVE_IN: &str = "set -e; mkdir \"$1.new\"; mount -t tmpfs -o size=$2 tmpfs \"$1.new\"; cp -a \"$1/.\" \"$1.new\"; \
            mount --move \"$1.new\" \"$1\"; exec \"$3\" serve";
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", MOVE_IN, "sh"])
            .arg(folder)
            .args([size, BINARY]);
        command.envs(self.settings.iter().map(|(key, value)| (format!("PORTCULLIS_{key}"), value)));
        command
    }

    fn trust(&mut self, pem: &[u8]) {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
        self.tls = Arc::new(
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
        );
        let root = reqwest::Certificate::from_pem(pem).unwrap();
        self.http = reqwest::Client::builder()
            .tls_certs_only([root])
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .unwrap();
    }

    /// `kill -9` of the gateway.
    pub fn gateway_kill(&mut self) {
        let mut gateway = self.gateway.take().unwrap();
        gateway.kill().unwrap();
        gateway.wait().unwrap();
    }

    /// The gateway's process, which is the caller's to end from now on.
    pub fn take_gateway(&mut self) -> GuardedChild {
        self.gateway.take().unwrap()
    }

    /// The gateway's process.
    pub fn gateway_pid(&self) -> u32 {
        self.gateway.as_ref().unwrap().id()
    }

    /// Ends both in order.
    pub async fn stop(&mut self) {
        let both: Vec<GuardedChild> =
            [self.gateway.take(), self.agent.take()].into_iter().flatten().collect();
        tokio::task::spawn_blocking(move || both.into_iter().for_each(terminate)).await.unwrap();
    }

    // --- the host ---

    fn agent_state(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// Starts the agent (the first time with a join token) and waits until it is connected.
    pub async fn agent_up(&mut self) {
        let mut token = String::new();
        if !self.agent_state().join("agent.json").exists() {
            let made = self.cli(&["host", "join-token", "--name", "box"], "");
            let text = String::from_utf8(made.stdout).unwrap();
            token = text
                .split_whitespace()
                .skip_while(|word| *word != "--join")
                .nth(1)
                .unwrap()
                .to_owned();
        }
        self.agent_up_with(&token).await;
    }

    /// A join token, as an admin at a browser makes it.
    pub async fn join_token_over_http(&self) -> String {
        let admin = self.sign_in("admin").await;
        let (status, made) =
            self.post("/api/hosts/join-tokens", Some(&admin.token), json!({"name": "box"})).await;
        assert_eq!(status, 201, "{made}");
        made["token"].as_str().unwrap().to_owned()
    }

    /// Starts the agent with this token, or as the host it is already.
    pub async fn agent_up_with(&mut self, token: &str) {
        let state = self.agent_state();
        let mut command = self.command(&["agent", "--state-dir", state.to_str().unwrap()]);
        if !token.is_empty() {
            command
                .args(["--gateway", &self.url(""), "--ca-cert"])
                .arg(self.data().join("tls/ca.pem"))
                .env("PORTCULLIS_JOIN", token);
        }
        let log =
            File::options().create(true).append(true).open(self.dir.join("agent.log")).unwrap();
        self.agent = Some(
            spawn_guarded(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log)).unwrap(),
        );
        self.wait_until("a host is connected", async |stack| {
            stack.health().await.1["dependencies"]["hosts"]["connected"] == 1
        })
        .await;
    }

    /// The agent's process.
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// `kill -9` of the agent.
    pub fn agent_kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// A signal to the agent.
    pub fn agent_signal(&self, what: Signal) {
        signal(self.agent_pid(), what);
    }

    /// The display servers below the agent.
    pub fn display_servers(&self) -> Vec<u32> {
        self.agent.as_ref().map_or_else(Vec::new, |agent| display_servers(agent.id()))
    }

    // --- asking ---
}

impl Drop for Stack {
    fn drop(&mut self) {
        for child in [self.gateway.take(), self.agent.take()].into_iter().flatten() {
            terminate(child);
        }
    }
}
