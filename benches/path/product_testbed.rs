//! The whole product, for lines (k), (s) and (w): `portcullis serve` and `portcullis agent` in a folder, a
//! signed-in administrator, and the requests by which a browser opens an application.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use portcullis::auth::totp;
use portcullis::domain::secret::SecretString;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::machine::resident_bytes;
use crate::searches::Requests;
use crate::web::AppEndpoint;
use crate::{Outcome, fail};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A gateway and an agent. Killed when dropped.
pub struct ProductTestbed {
    gateway: Child,
    agent: Child,
    client: reqwest::Client,
    address: SocketAddr,
    authority: PathBuf,
    token: String,
    host: String,
    session_kib: f64,
}

/// A command with the testbed's settings and no others of the environment.
fn command(folder: &Path, at: SocketAddr, udp: SocketAddr, application: SocketAddr) -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PORTCULLIS_")) {
        command.env_remove(name);
    }
    command
        .env("PORTCULLIS_SERVER__DATA_DIR", folder.join("gateway"))
        .env("PORTCULLIS_SERVER__LISTEN", at.to_string())
        .env("PORTCULLIS_SERVER__PUBLIC_URL", format!("https://localhost:{}", at.port()))
        .env("PORTCULLIS_TUNNEL__LISTEN", udp.to_string())
        .env("PORTCULLIS_DIRECT__ALLOW", format!("app={application}"))
        .env("PORTCULLIS_APPS__DOMAIN", "apps.localhost")
        .env("PORTCULLIS_LOG__LEVEL", "warn")
        .env("PORTCULLIS_AGENT__MAX_DESKTOPS", "1000")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn free_address() -> Outcome<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Polls until `check` returns a value.
async fn poll_until<T, F: Future<Output = Outcome<Option<T>>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> Outcome<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = check().await? {
            return Ok(found);
        }
        if began.elapsed() > START_TIMEOUT {
            return Err(fail(format!("{what}: not in time")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl ProductTestbed {
    /// Starts it; the application at this address is a service of the host, and a direct target.
    pub async fn start(folder: &Path, application: SocketAddr) -> Outcome<Self> {
        Self::start_with(folder, application, async |_| Ok(())).await
    }

    /// The same; `prepare` gets the data folder, in which the keys and the database are, before the
    /// gateway runs.
    pub async fn start_with(
        folder: &Path,
        application: SocketAddr,
        prepare: impl AsyncFnOnce(&Path) -> Outcome<()>,
    ) -> Outcome<Self> {
        let (at, udp) = (free_address()?, free_address()?);
        let shell = |arguments: &[&str]| {
            let mut command = command(folder, at, udp, application);
            command.args(arguments).output()
        };
        let user = shell(&["user", "create", "root@example.test", "--role", "admin", "--generate"])
            .await?;
        let output = String::from_utf8_lossy(&user.stdout).into_owned();
        let password = output
            .split_once("shown only now): ")
            .and_then(|(_, rest)| rest.split_whitespace().next());
        let password = password.ok_or_else(|| {
            fail(format!("no user: {output}{}", String::from_utf8_lossy(&user.stderr)))
        })?;
        prepare(&folder.join("gateway")).await?;
        let log = |name: &str| -> Outcome<std::fs::File> {
            Ok(std::fs::File::create(folder.join(name))?)
        };
        let gateway = command(folder, at, udp, application)
            .arg("serve")
            .stdout(log("gateway.out")?)
            .stderr(log("gateway.err")?)
            .spawn()?;
        let ca: PathBuf = folder.join("gateway/tls/ca.pem");
        poll_until("the authority exists", || async { Ok(ca.is_file().then_some(())) }).await?;
        poll_until("the gateway listens", || async {
            Ok(tokio::net::TcpStream::connect(at).await.ok())
        })
        .await?;
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(&ca)?)?])
            .resolve("localhost", at)
            .timeout(START_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let join = shell(&["host", "join-token", "--name", "host-1"]).await?;
        let output = String::from_utf8_lossy(&join.stdout).into_owned();
        let line = output
            .lines()
            .find_map(|line| line.trim().strip_prefix("portcullis agent "))
            .ok_or_else(|| fail("no join command"))?;
        let agent = command(folder, at, udp, application)
            .arg("agent")
            .args(line.split(' '))
            .args(["--state-dir".into(), folder.join("agent").into_os_string()])
            .args(["--service".into(), format!("app={application}")])
            .stdout(log("agent.out")?)
            .stderr(log("agent.err")?)
            .spawn()?;
        let mut testbed = Self {
            gateway,
            agent,
            client,
            address: at,
            authority: ca,
            token: String::new(),
            host: String::new(),
            session_kib: 0.0,
        };
        testbed.sign_in(password).await?;
        testbed.host = poll_until("the host connects", || async {
            let health = testbed.call(reqwest::Method::GET, "/api/health", None).await?;
            if health["dependencies"]["hosts"]["connected"] != 1 {
                return Ok(None);
            }
            let hosts = testbed.call(reqwest::Method::GET, "/api/hosts", None).await?;
            Ok(hosts[0]["id"].as_str().map(str::to_owned))
        })
        .await?;
        Ok(testbed)
    }

    /// A first sign-in, which enrols a second factor.
    async fn sign_in(&mut self, password: &str) -> Outcome<()> {
        let post = reqwest::Method::POST;
        let first = self
            .call(
                post.clone(),
                "/api/auth/login",
                Some(json!({ "email": "root@example.test", "password": password })),
            )
            .await?;
        let factor = self
            .call(
                post.clone(),
                "/api/auth/mfa/totp/enroll",
                Some(json!({ "mfa_token": first["mfa_token"] })),
            )
            .await?;
        let secret = SecretString::new(factor["secret"].as_str().unwrap_or_default().to_owned());
        let code = totp::code_at(&secret, totp::step_of(std::time::SystemTime::now().into()))?;
        let second = self
            .call(
                post,
                "/api/auth/mfa/totp/confirm",
                Some(json!({ "mfa_token": first["mfa_token"], "code": code })),
            )
            .await?;
        self.token = second["access_token"]
            .as_str()
            .ok_or_else(|| fail(format!("no sign-in: {second}")))?
            .to_owned();
        Ok(())
    }

    async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Outcome<Value> {
        loop {
            let mut request = self.client.request(
                method.clone(),
                format!("https://localhost:{}{path}", self.address.port()),
            );
            if !self.token.is_empty() {
                request = request.bearer_auth(&self.token);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await?;
            let status = answer.status();
            if status == reqwest::StatusCode::TOO_MANY_REQUESTS {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            let text = answer.text().await?;
            if !status.is_success() {
                return Err(fail(format!("{method} {path}: {status}: {text}")));
            }
            return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
        }
    }

    /// Of the gateway.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the authority that clients trust.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Requests of the administrator, for tasks.
    pub fn requests(&self) -> Requests {
        Requests {
            client: self.client.clone(),
            port: self.address.port(),
            token: self.token.clone(),
        }
    }

    pub fn gateway(&self) -> u32 {
        self.gateway.id().unwrap_or(0)
    }

    pub fn agent(&self) -> u32 {
        self.agent.id().unwrap_or(0)
    }

    /// Memory of an active session whose application was not opened; measured by `launch_many`.
    pub fn session_kib(&self) -> f64 {
        self.session_kib
    }

    /// The target of a workspace that is reached through the agent.
    pub fn agent_target(&self) -> Value {
        json!({ "host_id": self.host, "service": "app" })
    }

    /// A new workspace, its session, and the application opened as a browser opens it.
    pub async fn launch(&self, id: &str, target: &Value) -> Outcome<AppEndpoint> {
        let session = self.launch_session(id, target).await?;
        self.enter(&session).await
    }

    async fn launch_session(&self, id: &str, target: &Value) -> Outcome<String> {
        let post = reqwest::Method::POST;
        let workspace = json!({ "id": id, "name": id, "type": "html5", "requires_mfa": false, "target": target });
        self.call(post.clone(), "/api/workspaces", Some(workspace)).await?;
        let session =
            self.call(post, &format!("/api/workspaces/{id}/launch"), Some(json!({}))).await?;
        let id = session["session_id"]
            .as_str()
            .ok_or_else(|| fail(format!("no session: {session}")))?
            .to_owned();
        poll_until("the session is active", || async {
            let session =
                self.call(reqwest::Method::GET, &format!("/api/sessions/{id}"), None).await?;
            match session["status"].as_str() {
                Some("active") => Ok(Some(())),
                Some("creating") => Ok(None),
                _ => Err(fail(format!("the launch failed: {session}"))),
            }
        })
        .await?;
        Ok(id)
    }

    async fn enter(&self, session: &str) -> Outcome<AppEndpoint> {
        let name = format!("{session}.apps.localhost");
        // A client for each, so that no two share a connection; it resolves the application's name.
        let ca = reqwest::Certificate::from_pem(&std::fs::read(self.ca()?)?)?;
        let browser = reqwest::Client::builder()
            .tls_certs_only([ca])
            .resolve(&name, self.address)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        loop {
            let ticket = self
                .call(
                    reqwest::Method::POST,
                    &format!("/api/sessions/{session}/ticket"),
                    Some(json!({})),
                )
                .await?;
            let ticket = ticket["ticket"]
                .as_str()
                .ok_or_else(|| fail(format!("no ticket: {ticket}")))?
                .to_owned();
            let answer = browser
                .post(format!("https://{name}:{}/.portcullis/enter", self.address.port()))
                .header("origin", format!("https://localhost:{}", self.address.port()))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(format!("ticket={ticket}"))
                .send()
                .await?;
            if answer.status() == reqwest::StatusCode::TOO_MANY_REQUESTS {
                tokio::time::sleep(Duration::from_millis(300)).await;
                continue;
            }
            let cookie = answer
                .headers()
                .get("set-cookie")
                .and_then(|value| value.to_str().ok()?.split(';').next().map(str::to_owned));
            let status = answer.status();
            let cookie = cookie.ok_or_else(|| fail(format!("no entry: {status}")))?;
            return Ok(AppEndpoint { address: self.address, name, cookie });
        }
    }

    fn ca(&self) -> Outcome<PathBuf> {
        let environment = std::fs::read(format!("/proc/{}/environ", self.gateway()))?;
        let folder = environment
            .split(|b| *b == 0)
            .find_map(|pair| pair.strip_prefix(b"PORTCULLIS_SERVER__DATA_DIR="));
        let folder = folder.ok_or_else(|| fail("no data folder"))?;
        Ok(PathBuf::from(String::from_utf8_lossy(folder).into_owned()).join("tls/ca.pem"))
    }

    /// `count` sessions through the agent, each of its own workspace, all opened.
    pub async fn launch_many(&mut self, count: usize) -> Outcome<Vec<AppEndpoint>> {
        let target = self.agent_target();
        let this = &*self;
        this.launch_session("ws-bench-first", &target).await?;
        let before = resident_bytes(this.gateway())?;
        let sessions: Vec<String> = futures_util::stream::iter(0..count)
            .map(|n| {
                let target = &target;
                async move { this.launch_session(&format!("ws-bench-{n}"), target).await }
            })
            .buffered(4)
            .try_collect()
            .await?;
        let session_kib =
            resident_bytes(this.gateway())?.saturating_sub(before) as f64 / 1024.0 / count as f64;
        let mut endpoints = Vec::with_capacity(count);
        for session in &sessions {
            endpoints.push(this.enter(session).await?);
        }
        self.session_kib = session_kib;
        Ok(endpoints)
    }

    /// Ends both, in order.
    pub async fn shutdown(mut self) {
        for child in [&mut self.agent, &mut self.gateway] {
            if let Some(pid) = child
                .id()
                .and_then(|pid| i32::try_from(pid).ok())
                .and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            if tokio::time::timeout(Duration::from_secs(20), child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }
}
