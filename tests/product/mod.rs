//! The product as a process of its own: `portcullis demo` in a fresh folder, asked over HTTPS like
//! anybody would, and ended with everything it started when the test ends.

use crate::support::process_guard::{GuardedChild, spawn_guarded};
use crate::support::wait::{within, within_blocking};
use data_encoding::BASE32_NOPAD;
use portcullis::auth::totp;
use portcullis::domain::secret::SecretString;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
/// A first start: keys, migrations, four Argon2id hashes, an agent.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// An end in order. Every part of it has a limit of its own, together about 5 s; the rest is for a
/// machine that is busy.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A running demo.
pub struct Demo {
    /// Its folder.
    pub dir: PathBuf,
    /// `demo.json`.
    pub json: Value,
    /// Speaks HTTPS, trusting only the demo's authority.
    pub http: reqwest::Client,
    child: GuardedChild,
}

/// A process with no environment of ours.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PORTCULLIS_")) {
        command.env_remove(name);
    }
    command
}

impl Demo {
    /// Starts a demo on free ports in this folder, and waits until it says that it is ready.
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[]).await
    }

    /// The same with settings of ours in its environment.
    pub async fn start_with(dir: &Path, settings: &[(&str, String)]) -> Self {
        let dir = dir.to_path_buf();
        let path = dir.join("demo.json");
        let mut demo = command(&["demo", "--listen", "127.0.0.1:0", "--data-dir"]);
        let mut child =
            spawn_guarded(demo.arg(&dir).envs(settings.iter().cloned()).stdout(Stdio::null()))
                .unwrap();
        let bytes = within(READY_TIMEOUT, async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the demo ended: {status}");
            }
            std::fs::read(&path).ok()
        })
        .await;
        let Some(bytes) = bytes else {
            drop(child.kill());
            panic!("the demo was not ready in {READY_TIMEOUT:?}");
        };
        // Written in one step, so it is complete.
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        drop(rustls::crypto::ring::default_provider().install_default());
        let ca = std::fs::read(json["ca_cert"].as_str().unwrap()).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .build()
            .unwrap();
        Self { dir, json, http, child }
    }

    /// Its address.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.json["base_url"].as_str().unwrap())
    }

    /// A user of this role that has a second factor.
    pub fn user(&self, role: &str) -> &Value {
        self.json["users"]
            .as_array()
            .unwrap()
            .iter()
            .find(|u| u["role"] == role && u["totp_secret"].is_string())
            .unwrap()
    }

    /// Signs a user in with both factors; the access token.
    pub async fn sign_in(&self, role: &str) -> String {
        let user = self.user(role);
        let first = self
            .post(
                "/api/auth/login",
                None,
                json!({"email": user["email"], "password": user["password"]}),
            )
            .await;
        assert_eq!(first.0, 200, "{}", first.1);
        let code = totp_code(user["totp_secret"].as_str().unwrap());
        let second = self
            .post(
                "/api/auth/mfa/verify",
                None,
                json!({"mfa_token": first.1["mfa_token"], "method": "totp", "code": code}),
            )
            .await;
        assert_eq!(second.0, 200, "{}", second.1);
        second.1["access_token"].as_str().unwrap().to_owned()
    }

    /// `GET` as JSON.
    pub async fn get(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        send(self.with(self.http.get(self.url(path)), token)).await
    }

    /// `POST` as JSON.
    pub async fn post(&self, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        send(self.with(self.http.post(self.url(path)), token).json(&body)).await
    }

    fn with(
        &self,
        request: reqwest::RequestBuilder,
        token: Option<&str>,
    ) -> reqwest::RequestBuilder {
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Asks it to stop, and says how it ended and how long that took.
    pub async fn stop(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.ask_to_stop();
        let status = within(STOP_TIMEOUT, async || self.child.try_wait().unwrap())
            .await
            .expect("the demo stops");
        (status, began.elapsed())
    }

    fn ask_to_stop(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Processes of this demo that are still there: those that name its folder.
    pub fn leftover_processes(dir: &Path) -> Vec<String> {
        let mark = dir.display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&mark) {
                found.push(line);
            }
        }
        found
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // In order first, so that its desktops end with it; then for good.
        if self.child.try_wait().ok().flatten().is_none() {
            self.ask_to_stop();
            let ended = || self.child.try_wait().ok().flatten();
            if within_blocking(STOP_TIMEOUT, ended).is_none() {
                drop(self.child.kill());
                drop(self.child.wait());
            }
        }
    }
}

async fn send(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.timeout(Duration::from_secs(60)).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The present code of a secret.
pub fn totp_code(secret: &str) -> String {
    assert!(BASE32_NOPAD.decode(secret.as_bytes()).is_ok(), "the secret is base32");
    totp::code_at(
        &SecretString::new(secret.to_owned()),
        totp::step_of(std::time::SystemTime::now().into()),
    )
    .unwrap()
}
