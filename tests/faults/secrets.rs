//! What must stay secret on the real thing: after a working day at the finest log level it is in no
//! log, not in the database, not in any process's arguments or environment, and every file is its
//! owner's alone.

use super::processes::display_servers;
use super::stack::{PASSWORD, Stack, TIMEOUT, WORKSPACE};
use crate::product::totp_code;
use base64::Engine as _;
use data_encoding::BASE32_NOPAD;
use des::Des;
use des::cipher::{Array, BlockCipherDecrypt as _, KeyInit as _};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tokio::time::timeout;

/// The key of VNC password files, bits of each byte mirrored.
const FILE_KEY: [u8; 8] = [23, 82, 107, 6, 35, 78, 88, 7];

/// A secret, in each form it might be found in.
struct Secret {
    what: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn text(what: &'static str, text: &str) -> Self {
        assert!(text.len() >= 8, "{what} is worth looking for: {text}");
        Self { what, forms: vec![text.as_bytes().to_vec()] }
    }

    /// Bytes: as they are, and as text.
    fn bytes(what: &'static str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 16, "{what} is worth looking for");
        let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
        Self {
            what,
            forms: vec![bytes.to_vec(), base64.into_bytes(), hex::encode(bytes).into_bytes()],
        }
    }

    fn is_in(&self, haystack: &[u8]) -> bool {
        self.forms.iter().any(|form| haystack.windows(form.len()).any(|part| part == form))
    }
}

/// What the sandboxed display server proves its clients against.
fn vnc_password(server: u32) -> String {
    let arguments = std::fs::read(format!("/proc/{server}/cmdline")).unwrap();
    let words: Vec<&str> = std::str::from_utf8(&arguments).unwrap().split('\0').collect();
    let at = words
        .iter()
        .position(|word| {
            word.eq_ignore_ascii_case("-passwordfile") || word.eq_ignore_ascii_case("-rfbauth")
        })
        .expect("it has a password");
    let file = std::fs::read(format!("/proc/{server}/root{}", words[at + 1])).unwrap();
    let mut block = Array::<u8, _>::try_from(&file[..8]).unwrap();
    Des::new(&Array::from(FILE_KEY.map(u8::reverse_bits))).decrypt_block(&mut block);
    block.iter().map(|&byte| char::from(byte)).collect()
}

/// Arguments and environment of every process below one, and its own.
fn seen_from_outside(root: u32) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for pid in super::processes::descendants(root) {
        for part in ["cmdline", "environ"] {
            let path = format!("/proc/{pid}/{part}");
            found.push((path.clone(), std::fs::read(&path).unwrap_or_default()));
        }
    }
    found
}

fn every_file(folder: &Path, visit: &mut impl FnMut(&Path, u32)) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.path().symlink_metadata().unwrap();
        visit(&entry.path(), meta.permissions().mode());
        if meta.is_dir() {
            every_file(&entry.path(), visit);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_where_they_belong() {
    let mut stack = Stack::with(&[("LOG__LEVEL", "trace"), ("AUTH__MFA_REQUIRED", "true")]).await;
    let mut secrets = vec![Secret::text("password", PASSWORD)];
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();

    // Sign-in with enrolment of a factor, renewal, a wrong password.
    let (_, due) = stack
        .post(
            "/api/auth/login",
            None,
            json!({"email": "member@example.test", "password": PASSWORD}),
        )
        .await;
    secrets.push(Secret::text("MFA token", &text(&due["mfa_token"])));
    let (status, seed) =
        stack.post("/api/auth/mfa/totp/enroll", None, json!({"mfa_token": due["mfa_token"]})).await;
    assert_eq!(status, 200, "{seed}");
    let totp = text(&seed["secret"]);
    secrets.push(Secret::text("TOTP secret", &totp));
    secrets.push(Secret::bytes("TOTP key", &BASE32_NOPAD.decode(totp.as_bytes()).unwrap()));
    let (status, tokens) = stack
        .post(
            "/api/auth/mfa/totp/confirm",
            None,
            json!({"mfa_token": due["mfa_token"], "code": totp_code(&totp)}),
        )
        .await;
    assert_eq!(status, 200, "{tokens}");
    secrets.push(Secret::text("used refresh token", &text(&tokens["refresh_token"])));
    let (status, renewed) = stack
        .post("/api/auth/refresh", None, json!({"refresh_token": tokens["refresh_token"]}))
        .await;
    assert_eq!(status, 200, "{renewed}");
    secrets.push(Secret::text("refresh token", &text(&renewed["refresh_token"])));
    secrets.push(Secret::text("access token", &text(&renewed["access_token"])));
    stack
        .post(
            "/api/auth/login",
            None,
            json!({"email": "member@example.test", "password": "Wrong-guess-5512"}),
        )
        .await;
    secrets.push(Secret::text("wrong password", "Wrong-guess-5512"));

    // A session with its desktop and its stream.
    let person = super::stack::SignedInUser {
        id: text(&renewed["user"]["id"]),
        token: text(&renewed["access_token"]),
    };
    let (status, launched) = stack
        .post(&format!("/api/workspaces/{WORKSPACE}/launch"), Some(&person.token), json!({}))
        .await;
    assert_eq!(status, 200, "{launched}");
    let session = text(&launched["session_id"]);
    let ticket = stack.ticket(&person, &session).await.unwrap();
    secrets.push(Secret::text("ticket", ticket.split_once("ticket=").unwrap().1));
    let (stream, _ended) =
        crate::support::vnc::over_websocket(stack.socket(&ticket).await.unwrap());
    let mut desktop =
        timeout(TIMEOUT, crate::support::vnc::VncClient::connect(stream)).await.unwrap().unwrap();
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
    let server = display_servers(stack.agent_pid())[0];
    secrets.push(Secret::text("VNC password", &vnc_password(server)));
    let spare = stack.cli(&["host", "join-token"], "");
    let spare = String::from_utf8(spare.stdout).unwrap();
    secrets.push(Secret::text(
        "join token",
        spare.split_whitespace().skip_while(|word| *word != "--join").nth(1).unwrap(),
    ));

    // The keys on disk.
    let agent: serde_json::Value =
        serde_json::from_slice(&std::fs::read(stack.dir.join("agent/agent.json")).unwrap())
            .unwrap();
    let key = |name: &str| {
        base64::engine::general_purpose::STANDARD.decode(agent[name].as_str().unwrap()).unwrap()
    };
    secrets.push(Secret::bytes("host's private key", &key("private_key")));
    secrets.push(Secret::bytes("host's preshared key", &key("preshared_key")));
    for entry in std::fs::read_dir(stack.data().join("keys")).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap();
        let read = |text: &[u8]| {
            std::str::from_utf8(text).ok().and_then(|t| {
                base64::engine::general_purpose::STANDARD
                    .decode(t.trim())
                    .ok()
                    .or_else(|| hex::decode(t.trim()).ok())
            })
        };
        secrets.push(Secret::bytes("gateway's key", &read(&bytes).unwrap_or(bytes)));
    }

    // Arguments and environments, and who could read them.
    for (place, bytes) in seen_from_outside(stack.agent_pid())
        .into_iter()
        .chain(seen_from_outside(stack.gateway_pid()))
    {
        for secret in &secrets {
            assert!(!secret.is_in(&bytes), "a {} is in {place}", secret.what);
        }
    }
    for (place, bytes) in seen_from_outside(stack.agent_pid()).into_iter().skip(2) {
        let of_the_agent = ["PORTCULLIS_JOIN", "PORTCULLIS_SERVER", "PORTCULLIS_DATABASE"]
            .map(|name| Secret::text("", name));
        assert!(
            !of_the_agent.iter().any(|name| name.is_in(&bytes)),
            "{place} has what the agent was started with"
        );
    }

    // The database, with its journal, and the audit log.
    let mut places: Vec<(String, Vec<u8>)> = ["portcullis.db", "portcullis.db-wal"]
        .map(|name| (name.to_owned(), std::fs::read(stack.data().join(name)).unwrap()))
        .into();
    assert!(
        places.iter().any(|(_, bytes)| Secret::text("", "member@example.test").is_in(bytes)),
        "the right files are searched"
    );
    let export = stack.cli(&["audit", "export"], "");
    assert!(export.status.success());
    places.push(("audit export".to_owned(), export.stdout));
    // Both logs, after everything has ended in order.
    stack.stop().await;
    for name in ["gateway.log", "agent.log"] {
        places.push((name.to_owned(), std::fs::read(stack.dir.join(name)).unwrap()));
    }
    assert!(
        Secret::text("", "\"level\":\"TRACE\"").is_in(&places[3].1)
            && Secret::text("", "/api/sessions/{id}/stream").is_in(&places[3].1),
        "the log is fine-grained"
    );
    for (place, bytes) in &places {
        for secret in &secrets {
            assert!(!secret.is_in(bytes), "a {} is in {place}", secret.what);
        }
    }

    // Nobody else reads any file, but the certificates that are for everybody; nobody else enters
    // the folders.
    let mut looked = 0;
    every_file(&stack.data(), &mut |path, mode| {
        looked += 1;
        let public = path.extension().is_some_and(|e| e == "pem") && mode & 0o022 == 0;
        assert!(mode & 0o077 == 0 || public, "{}: {mode:o}", path.display());
    });
    assert!(looked > 8, "{looked}");
    for folder in [stack.data(), stack.dir.join("agent")] {
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", folder.display());
    }
    for name in ["agent.json", "lock"] {
        let mode =
            std::fs::metadata(stack.dir.join("agent").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}
