//! `portcullis workspace` for workspaces with a server of their own.

use super::{failure, run, success, with_input};
use serde_json::Value;

#[test]
fn upstreams_are_managed_from_the_command_line() {
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
    let key = portcullis::tunnel::PrivateKey::generate().unwrap().public_key().to_string();
    success(&run_command(&["host", "add-peer", "rack", "--public-key", &key]));

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
    let times =
        ["--session-duration", "2h30m", "--session-extension", "none", "--idle-timeout", "15m"];
    success(&say(&[&create[..], &rest, &policy, &times].concat(), "the server's password\n"));
    let shown = |id: &str| -> Value {
        let text = success(&run_command(&["workspace", "list", "--json"]));
        assert!(!text.contains("the server's password"));
        let all: Value = serde_json::from_str(&text).unwrap();
        all.as_array().unwrap().iter().find(|w| w["id"] == id).unwrap().clone()
    };
    let made = shown("ws-win");
    assert_eq!(
        made["policy"],
        serde_json::json!({"clipboard": "out", "files": true, "read_only": true})
    );
    let times = |duration: Option<u64>, extension: Option<u64>, idle: Option<u64>| serde_json::json!({"duration_seconds": duration, "extension_seconds": extension, "idle_timeout_seconds": idle});
    assert_eq!(made["session_limits"], times(Some(9000), Some(0), Some(900)));
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

    success(&run_command(&[
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
    success(&run_command(
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
    success(&run_command(&[
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
        let message = failure(&run_command(arguments));
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
        assert_eq!(run_command(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
