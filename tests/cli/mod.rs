//! The command line as people and scripts meet it: exit statuses, one line of failure, help,
//! administration on a database.

mod audit;

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

/// Failed with status 1 and one line on standard error; that line.
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
fn help_is_everywhere_and_misuse_is_two() {
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
fn a_wrong_configuration_is_refused_with_its_name() {
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
fn the_description_of_the_api_is_printed() {
    let api: Value = serde_json::from_str(&success(&run(&["openapi"]))).unwrap();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(api["paths"]["/api/workspaces/{id}/launch"]["post"].is_object());
}

#[test]
fn users_and_workspaces_are_managed_from_the_shell() {
    let dir = tempfile::tempdir().unwrap();
    let at = ["--data-dir", dir.path().to_str().unwrap()];
    let with = |arguments: &[&str]| -> Vec<String> {
        arguments.iter().chain(&at).map(|a| (*a).to_owned()).collect()
    };
    let do_it =
        |arguments: &[&str]| run(&with(arguments).iter().map(String::as_str).collect::<Vec<_>>());
    let say = |arguments: &[&str], input: &str| {
        with_input(&with(arguments).iter().map(String::as_str).collect::<Vec<_>>(), input)
    };

    let made =
        success(&do_it(&["user", "create", "Root@Example.org", "--role", "admin", "--generate"]));
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
        failure(&do_it(&["user", "create", "none@example.org"]))
            .contains("the password did not come on standard input")
    );
    assert!(
        failure(&do_it(&["user", "disable", "ghost@example.org"]))
            .contains("there is no user ghost@example.org")
    );

    for command in
        [&["user", "disable", "mia@example.org"][..], &["user", "sign-out", "mia@example.org"]]
    {
        success(&do_it(command));
    }
    let users: Value = serde_json::from_str(&success(&do_it(&["user", "list", "--json"]))).unwrap();
    let mia = users.as_array().unwrap().iter().find(|u| u["email"] == "mia@example.org").unwrap();
    assert_eq!(
        (mia["disabled"].as_bool(), mia["name"].as_str(), mia["role"].as_str()),
        (Some(true), Some("Mia"), Some("member"))
    );
    assert!(success(&do_it(&["user", "list"])).lines().next().unwrap().starts_with("EMAIL"));
    success(&do_it(&["user", "enable", "mia@example.org"]));
    success(&say(&["user", "set-password", "mia@example.org"], "another long password\n"));

    success(&do_it(&[
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
    success(&do_it(&["workspace", "update", "ws-a", "--maintenance", "true"]));
    let workspaces: Value =
        serde_json::from_str(&success(&do_it(&["workspace", "list", "--json"]))).unwrap();
    assert_eq!(
        (
            workspaces[0]["id"].as_str(),
            workspaces[0]["maintenance"].as_bool(),
            workspaces[0]["tags"][1].as_str()
        ),
        (Some("ws-a"), Some(true), Some("y"))
    );
    assert!(failure(&do_it(&["workspace", "delete", "ws-none"])).contains("not found"));
    success(&do_it(&["workspace", "delete", "ws-a"]));

    let token = success(&do_it(&["host", "join-token", "--name", "h1", "--valid-for", "5m"]));
    assert!(token.contains("portcullis agent --gateway https://localhost:8443 --join "), "{token}");
    assert!(failure(&do_it(&["host", "remove", "h1"])).contains("there is no host h1"));
    the_log_is_proved(dir.path(), &do_it);
}

#[test]
fn servers_are_managed_from_the_shell() {
    let dir = tempfile::tempdir().unwrap();
    let at = ["--data-dir", dir.path().to_str().unwrap()];
    let with = |arguments: &[&str]| -> Vec<String> {
        arguments.iter().chain(&at).map(|a| (*a).to_owned()).collect()
    };
    let do_it =
        |arguments: &[&str]| run(&with(arguments).iter().map(String::as_str).collect::<Vec<_>>());
    let say = |arguments: &[&str], input: &str| {
        with_input(&with(arguments).iter().map(String::as_str).collect::<Vec<_>>(), input)
    };
    let key = portcullis::tunnel::PrivateKey::generate().unwrap().public_key().to_string();
    success(&do_it(&["host", "add-peer", "rack", "--public-key", &key]));

    let pin = "ab".repeat(32);
    let create = [
        "workspace",
        "create",
        "ws-win",
        "--name",
        "Windows",
        "--type",
        "rdp",
        "--host",
        "rack",
        "--port",
        "3389",
    ];
    let rest = [
        "--username",
        "svc",
        "--domain",
        "CORP",
        "--password",
        "--trust",
        "pinned",
        "--fingerprint",
        &pin,
        "--keyboard",
        "0x407",
    ];
    let policy = ["--clipboard", "out", "--files", "true", "--read-only", "true"];
    success(&say(&[&create[..], &rest, &policy].concat(), "the server's password\n"));
    let shown = |id: &str| -> Value {
        let text = success(&do_it(&["workspace", "list", "--json"]));
        assert!(!text.contains("the server's password"));
        let all: Value = serde_json::from_str(&text).unwrap();
        all.as_array().unwrap().iter().find(|w| w["id"] == id).unwrap().clone()
    };
    let made = shown("ws-win");
    assert_eq!(
        made["policy"],
        serde_json::json!({"clipboard": "out", "files": true, "read_only": true})
    );
    let server = &made["server"];
    assert_eq!(
        (
            server["credential_saved"].as_bool(),
            server["username"].as_str(),
            server["domain"].as_str()
        ),
        (Some(true), Some("svc"), Some("CORP"))
    );
    assert_eq!(
        (server["keyboard"].as_str(), server["trust"]["fingerprint"].as_str()),
        (Some("0x00000407"), Some(["ab"; 32].join(":").as_str()))
    );
    assert_eq!(
        (made["target"]["port"].as_u64(), server["certificate"]["pinned"].as_str()),
        (Some(3389), None)
    );

    success(&do_it(&[
        "workspace",
        "update",
        "ws-win",
        "--credential",
        "ask",
        "--trust",
        "first_use",
        "--clipboard",
        "none",
        "--keyboard",
        "",
    ]));
    let server = shown("ws-win")["server"].clone();
    assert_eq!(
        (
            server["credential"].as_str(),
            server["credential_saved"].as_bool(),
            server["keyboard"].as_str()
        ),
        (Some("ask"), Some(false), None)
    );
    let wiki = [
        "workspace",
        "add",
        "ws-wiki",
        "--name",
        "Wiki",
        "--type",
        "html5",
        "--host",
        "rack",
        "--port",
        "8080",
        "--start",
        "/home",
    ];
    success(&do_it(
        &[
            &wiki[..],
            &[
                "--scheme",
                "https",
                "--methods",
                "get,POST",
                "--paths",
                "/home,/api",
                "--upload",
                "false",
            ],
        ]
        .concat(),
    ));
    success(&do_it(&[
        "workspace",
        "update",
        "ws-wiki",
        "--methods",
        "",
        "--assertion-audience",
        "wiki",
    ]));
    let web = shown("ws-wiki")["server"]["web"].clone();
    assert_eq!(
        (
            web["scheme"].as_str(),
            web["start"].as_str(),
            web["identity"]["assertion_audience"].as_str()
        ),
        (Some("https"), Some("/home"), Some("wiki"))
    );
    let requests = &web["requests"];
    assert_eq!(
        (
            requests["methods"].to_string(),
            requests["paths"].to_string(),
            requests["upload"].as_bool()
        ),
        ("[]".into(), r#"["/home","/api"]"#.into(), Some(false))
    );
    for (arguments, why) in [
        (
            &["workspace", "update", "ws-win", "--host", "rack", "--service", "xrdp"][..],
            "standard peer, which has ports and no services",
        ),
        (
            &["workspace", "update", "ws-win", "--trust", "pinned"],
            "--trust pinned needs --fingerprint",
        ),
        (
            &[
                "workspace",
                "update",
                "ws-win",
                "--trust",
                "authority",
                "--roots",
                "/nonexistent.pem",
            ],
            "cannot read /nonexistent.pem",
        ),
        (
            &["workspace", "accept-certificate", "ws-win", "--fingerprint", &pin],
            "not the certificate that the server showed last",
        ),
        (&["workspace", "create", "ws-v", "--name", "V", "--type", "vnc"], "names a server"),
        (
            &["workspace", "create", "ws-l", "--name", "L", "--credential", "user"],
            "Only a workspace of type vnc, rdp or html5 has a server",
        ),
        (&["workspace", "add", "ws-w", "--name", "W", "--type", "html5"], "give its target"),
        (
            &["workspace", "update", "ws-win", "--scheme", "https"],
            "web is for workspaces of type html5",
        ),
        (
            &["workspace", "update", "ws-win", "--sign-in", "header"],
            "--sign-in header needs --sign-in-header",
        ),
    ] {
        let message = failure(&do_it(arguments));
        assert!(message.contains(why), "{arguments:?}: {message}");
    }
    for wrong in [
        &["workspace", "update", "ws-win", "--clipboard", "all"][..],
        &["workspace", "update", "ws-win", "--credential", "nobody"],
        &["workspace", "update", "ws-win", "--trust", "any"],
        &["workspace", "update", "ws-win", "--trust", "pinned", "--fingerprint", "abc"],
        &["workspace", "update", "ws-win", "--keyboard", "german"],
        &["workspace", "update", "ws-win", "--host", "rack"],
        &["workspace", "update", "ws-win", "--host", "rack", "--port", "1", "--service", "x"],
    ] {
        assert_eq!(do_it(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// Every act above is in the log; the log and its export can be proved, and tampering is found.
fn the_log_is_proved(dir: &Path, do_it: &dyn Fn(&[&str]) -> Output) {
    let whole = success(&do_it(&["audit", "verify"]));
    assert!(whole.contains("whole and unaltered"), "{whole}");
    let key = success(&do_it(&["audit", "public-key"]));
    let export = dir.join("log.jsonl");
    let path = export.to_str().unwrap();
    success(&do_it(&["audit", "export", "--output", path]));
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
