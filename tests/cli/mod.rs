//! The command line: exit statuses, one line of failure, help, administration on a database.

mod audit;
mod upstreams;

use crate::product::command;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line on standard error of a command that failed with status 1.
fn failure(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(message.lines().count(), 1, "one line: {message}");
    assert!(message.starts_with("portcullis: "), "{message}");
    message
}

fn success(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out(output)
}

fn with_input(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn every_command_has_help_and_wrong_usage_exits_with_two() {
    for path in [
        "",
        "demo",
        "serve",
        "agent",
        "user",
        "user create",
        "workspace",
        "workspace create",
        "workspace accept-certificate",
        "host",
        "host join-token",
        "audit",
        "audit verify",
        "audit accept-damage",
        "openapi",
        "check-config",
    ] {
        let arguments: Vec<&str> = path.split_whitespace().chain(["--help"]).collect();
        let text = success(&run(&arguments));
        assert!(
            text.contains("Usage: portcullis") && text.lines().next().is_some_and(|l| l.len() > 10),
            "{path}: {text}"
        );
    }
    assert!(success(&run(&["--version"])).starts_with("portcullis "));
    for wrong in [
        &["fly"][..],
        &[],
        &["demo", "--listen", "x"],
        &["user", "create"],
        &["serve", "--nonsense"],
    ] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn an_invalid_setting_is_reported_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    std::fs::write(&file, "[server]\nlisten_on = \"x\"\n").unwrap();
    let config = file.to_str().unwrap();
    for command in [&["check-config", "--config", config][..], &["serve", "--config", config]] {
        assert!(failure(&run(command)).contains("unknown setting server.listen_on in"));
    }
    assert!(
        failure(&run(&["serve", "--config", "/nonexistent.toml"]))
            .contains("cannot read the configuration file /nonexistent.toml")
    );
    let mut by_environment = command(&["check-config"]);
    by_environment.env("PORTCULLIS_SESSIONS__MAX_VIEWERS", "many");
    assert!(failure(&by_environment.output().unwrap()).contains(
        "sessions.max_viewers in the environment variable PORTCULLIS_SESSIONS__MAX_VIEWERS"
    ));
    let shown = success(&run(&["check-config"]));
    assert!(shown.contains("[sessions]\nmax_duration = \"12h\"\n"), "{shown}");
}

#[test]
fn the_openapi_document_is_printed() {
    let api: Value = serde_json::from_str(&success(&run(&["openapi"]))).unwrap();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(api["paths"]["/api/workspaces/{id}/launch"]["post"].is_object());
}

#[test]
fn users_and_workspaces_are_managed_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = ["--data-dir", dir.path().to_str().unwrap()];
    let with = |arguments: &[&str]| -> Vec<String> {
        arguments.iter().chain(&at).map(|a| (*a).to_owned()).collect()
    };
    let run_command =
        |arguments: &[&str]| run(&with(arguments).iter().map(String::as_str).collect::<Vec<_>>());
    let say = |arguments: &[&str], input: &str| {
        with_input(&with(arguments).iter().map(String::as_str).collect::<Vec<_>>(), input)
    };

    let made = success(&run_command(&[
        "user",
        "create",
        "Root@Example.org",
        "--role",
        "admin",
        "--generate",
    ]));
    assert!(
        made.contains("Created Root@Example.org (admin).")
            && made.contains("Password (shown only now): "),
        "{made}"
    );
    success(&say(
        &["user", "create", "mia@example.org", "--name", "Mia"],
        "a quite long password\n",
    ));
    assert!(
        failure(&say(&["user", "create", "MIA@example.org"], "a quite long password\n")).len() > 20,
        "an address is unique"
    );
    failure(&say(&["user", "create", "weak@example.org"], "short\n"));
    assert!(
        failure(&run_command(&["user", "create", "none@example.org"]))
            .contains("the password did not come on standard input")
    );
    assert!(
        failure(&run_command(&["user", "disable", "ghost@example.org"]))
            .contains("there is no user ghost@example.org")
    );

    for command in
        [&["user", "disable", "mia@example.org"][..], &["user", "sign-out", "mia@example.org"]]
    {
        success(&run_command(command));
    }
    let users: Value =
        serde_json::from_str(&success(&run_command(&["user", "list", "--json"]))).unwrap();
    let mia = users.as_array().unwrap().iter().find(|u| u["email"] == "mia@example.org").unwrap();
    assert_eq!(
        (mia["disabled"].as_bool(), mia["name"].as_str(), mia["role"].as_str()),
        (Some(true), Some("Mia"), Some("member"))
    );
    assert!(success(&run_command(&["user", "list"])).lines().next().unwrap().starts_with("EMAIL"));
    success(&run_command(&["user", "enable", "mia@example.org"]));
    success(&say(&["user", "set-password", "mia@example.org"], "another long password\n"));

    success(&run_command(&[
        "workspace",
        "create",
        "ws-a",
        "--name",
        "A",
        "--requires-mfa",
        "true",
        "--tags",
        "x,y",
    ]));
    success(&run_command(&["workspace", "update", "ws-a", "--maintenance", "true"]));
    let workspaces: Value =
        serde_json::from_str(&success(&run_command(&["workspace", "list", "--json"]))).unwrap();
    assert_eq!(
        (
            workspaces[0]["id"].as_str(),
            workspaces[0]["maintenance"].as_bool(),
            workspaces[0]["tags"][1].as_str()
        ),
        (Some("ws-a"), Some(true), Some("y"))
    );
    assert!(failure(&run_command(&["workspace", "delete", "ws-none"])).contains("not found"));
    success(&run_command(&["workspace", "delete", "ws-a"]));

    let token = success(&run_command(&["host", "join-token", "--name", "h1", "--valid-for", "5m"]));
    assert!(token.contains("portcullis agent --gateway https://localhost:8443 --join "), "{token}");
    assert!(failure(&run_command(&["host", "remove", "h1"])).contains("there is no host h1"));
    assert_log_is_verified(dir.path(), &run_command);
}

/// Every change above is in the log; the log and its export verify, and tampering is detected.
fn assert_log_is_verified(dir: &Path, run_command: &dyn Fn(&[&str]) -> Output) {
    let whole = success(&run_command(&["audit", "verify"]));
    assert!(whole.contains("whole and unaltered"), "{whole}");
    let key = success(&run_command(&["audit", "public-key"]));
    let export = dir.join("log.jsonl");
    let path = export.to_str().unwrap();
    success(&run_command(&["audit", "export", "--output", path]));
    let text = std::fs::read_to_string(&export).unwrap();
    for action in
        ["create_user", "disable_user", "update_workspace", "delete_workspace", "create_join_token"]
    {
        assert!(text.contains(&format!("\"action\":\"{action}\"")), "{action} is not in the log");
    }
    assert!(!text.contains("long password"));
    let proved = success(&run(&["audit", "verify", "--export", path, "--public-key", key.trim()]));
    assert!(proved.contains("whole and unaltered"), "{proved}");

    let forged = |change: &dyn Fn(&str) -> String| {
        let file = dir.join("forged.jsonl");
        std::fs::write(&file, change(&text)).unwrap();
        failure(&run(&[
            "audit",
            "verify",
            "--export",
            file.to_str().unwrap(),
            "--public-key",
            key.trim(),
        ]))
    };
    assert!(
        forged(&|t| t.replacen("mia@example.org", "eve@example.org", 1)).contains("was changed")
    );
    assert!(
        forged(&|t| t
            .lines()
            .enumerate()
            .filter(|(i, _)| *i != 1)
            .map(|(_, l)| format!("{l}\n"))
            .collect())
        .contains("entry 2 is missing")
    );
    let swapped = |t: &str| {
        let mut lines: Vec<&str> = t.lines().collect();
        lines.swap(1, 2);
        lines.join("\n") + "\n"
    };
    assert!(forged(&swapped).contains("entry 2 is missing"), "reordered");
    let without_the_head = |t: &str| {
        t.lines().take(t.lines().count() - 1).map(|l| format!("{l}\n")).collect::<String>()
    };
    assert!(forged(&without_the_head).contains("cut off"));
    let count = text.lines().count();
    assert!(
        forged(&|t| t
            .lines()
            .enumerate()
            .filter(|(i, _)| *i != count - 2)
            .map(|(_, l)| format!("{l}\n"))
            .collect())
        .contains("cut off")
    );
}
