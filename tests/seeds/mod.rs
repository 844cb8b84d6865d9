//! The two example programs of the API's source document, run against the product; only address
//! and token are replaced.

use crate::product::Demo;
use diesel::prelude::*;
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Debian's Python, which has `requests`.
const PYTHON: &str = "/usr/bin/python3";
const ADDRESS: &str = r#"BASE_URL = "https://your-domain.com/api""#;
const TOKEN: &str = r#"token = "your-token-here""#;

fn program(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds").join(name))
        .unwrap()
}

/// The program with our address and token, in a file.
fn addressed(demo: &Demo, name: &str, token: &str) -> PathBuf {
    let text = program(name);
    assert!(text.contains(ADDRESS) && text.contains(TOKEN));
    let text = text
        .replace(ADDRESS, &format!("BASE_URL = \"{}\"", demo.url("/api")))
        .replace(TOKEN, &format!("token = \"{token}\""));
    let path = demo.dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn python(demo: &Demo, program: &Path) -> Command {
    let mut command = Command::new(PYTHON);
    command
        .arg("-u")
        .arg(program)
        .env("REQUESTS_CA_BUNDLE", demo.json["ca_cert"].as_str().unwrap());
    command
}

#[test]
fn they_are_the_source_documents_programs() {
    // The document's text has no white space; everything else must be there, in order.
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let source = bare(&program("source.txt"));
    for name in ["monitor.py", "cleanup.py"] {
        assert!(source.contains(&bare(&program(name))), "{name} differs from the document");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monitor_sees_a_session_and_the_clean_up_ends_an_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let token = demo.sign_in("member").await;
    let (status, launched) =
        demo.post("/api/workspaces/ws-linux-desktop/launch", Some(&token), json!({})).await;
    assert_eq!(status, 200, "{launched}");
    let id = launched["session_id"].as_str().unwrap().to_owned();

    let seen = monitored(&demo, &token);
    for part in [
        "Active Sessions: 1",
        "  - Linux Desktop",
        &format!("    Session ID: {id}"),
        "    Duration: 0:00:",
        "    Tunnel: encrypted",
        "    MFA: Verified",
    ] {
        assert!(seen.contains(part), "the monitor does not print {part:?}:\n{seen}");
    }

    let clean_up = addressed(&demo, "cleanup.py", &token);
    let young = python(&demo, &clean_up).output().unwrap();
    assert!(young.status.success() && young.stdout.is_empty(), "a new session is kept: {young:?}");

    // The program uses the clock, so the session's start in the database is moved back nine hours.
    let moved = age(&demo, &id, Duration::from_secs(9 * 3600));
    assert_eq!(moved, 1, "the session's row was found");
    let old = python(&demo, &clean_up).output().unwrap();
    assert!(old.status.success(), "{}", String::from_utf8_lossy(&old.stderr));
    assert_eq!(
        String::from_utf8_lossy(&old.stdout),
        format!("Disconnecting old session: Linux Desktop\nSession {id} disconnected\n")
    );

    let (_, session) = demo.get(&format!("/api/sessions/{id}"), Some(&token)).await;
    assert_eq!(
        (session["status"].as_str(), session["end_reason"].as_str()),
        (Some("disconnected"), Some("user_disconnected")),
        "{session}"
    );
    assert!(session["ended_at"].is_string());
    let (_, active) = demo.get("/api/sessions/active", Some(&token)).await;
    assert_eq!(active, json!([]));
    let admin = demo.sign_in("admin").await;
    let (_, audit) = demo
        .get(&format!("/api/audit?session_id={id}&action=disconnect_session"), Some(&admin))
        .await;
    assert_eq!(audit["entries"][0]["actor"]["email"], demo.user("member")["email"]);
}

/// What the monitor prints in its first round; it never ends by itself.
fn monitored(demo: &Demo, token: &str) -> String {
    let monitor = addressed(demo, "monitor.py", token);
    let mut child =
        crate::support::process_guard::spawn_guarded(python(demo, &monitor).stdout(Stdio::piped()))
            .unwrap();
    let mut seen = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        seen.push_str(&line);
        seen.push('\n');
        if line.contains("MFA:") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    seen
}

/// Lets a session have begun earlier; returns how many rows changed.
fn age(demo: &Demo, id: &str, by: Duration) -> usize {
    let mut db =
        SqliteConnection::establish(demo.dir.join("portcullis.db").to_str().unwrap()).unwrap();
    diesel::sql_query("PRAGMA busy_timeout = 5000").execute(&mut db).unwrap();
    diesel::sql_query("UPDATE sessions SET started_at = started_at - ? WHERE id = ?")
        .bind::<diesel::sql_types::BigInt, _>(i64::try_from(by.as_millis()).unwrap())
        .bind::<diesel::sql_types::Text, _>(id)
        .execute(&mut db)
        .unwrap()
}
