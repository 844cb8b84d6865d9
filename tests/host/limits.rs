//! Bounds of a real desktop, with the agent that runs the tests and with an unprivileged one: what
//! it can write, use and call.
//!
//! An unprivileged agent is this program again, as the user nobody, with one ignored test.

use super::harness::{run_in_desktop, spec};
use portcullis::domain::UserId;
use portcullis::host::desktop::launcher::UIDS;
use portcullis::host::desktop::{Launcher, Limits};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// Uid and gid of the user nobody.
const NOBODY: u32 = 65_534;
const STATE_DIR: &str = "PORTCULLIS_TEST_AGENT_FOLDER";
const MEMORY: u64 = 512 << 20;

fn limits() -> Limits {
    Limits { memory: MEMORY, ..Limits::default() }
}

/// Runs one of the ignored tests below as the user nobody; as the present one if that is not root.
fn run_as_nobody(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // A copy, because the build folder may be in a home that nobody else may enter.
    let program = dir.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command = Command::new("setpriv");
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all"]);
        command.args(["--bounding-set=-all", "--pdeathsig", "KILL"]).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    command
        .args(["--exact", &format!("host::limits::{test}"), "--ignored", "--nocapture"])
        .current_dir(dir.path())
        .env(STATE_DIR, &state)
        .env("HOME", &state);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The state folder of the ignored tests; `None` when somebody else runs them.
fn state_dir() -> Option<std::path::PathBuf> {
    std::env::var_os(STATE_DIR).map(Into::into)
}

/// Fills every file system that a desktop can write to, one after the other.
const FILL: &str = r#"
while read -r _ _ _ _ at options _; do
    case "$options" in rw|rw,*) ;; *) continue ;; esac
    case "$at" in /home/*) continue ;; esac
    [ -d "$at" ] && touch "$at/fill" 2>/dev/null || continue
    size=$(df -k --output=size "$at" | tail -n 1)
    head -c 600M /dev/zero 2>/dev/null >"$at/fill"
    echo "mount $at $((size * 1024)) $(stat -c %s "$at/fill")"
done </proc/self/mountinfo
for at in / /dev; do find "$at" -xdev -type d -writable ! -exec mountpoint -q {} \; -printf 'open %p\n' 2>/dev/null; done
timeout 20 xset q >/dev/null && echo DISPLAY-ANSWERS
rm -f /dev/shm/fill /tmp/fill /run/fill /run/ws/fill
"#;

async fn every_writable_mount_is_bounded(dir: &Path) {
    let launcher = Launcher::new(dir, limits(), UIDS).unwrap();
    let text = run_in_desktop(&launcher, dir, spec(UserId::new()).0, FILL).await;
    println!("{text}");
    let mut written = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("mount ")) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [at, size, bytes] = fields[..] else { panic!("{line}") };
        let (size, bytes): (u64, u64) = (size.parse().unwrap(), bytes.parse().unwrap());
        assert!(bytes <= size && size < MEMORY / 2, "{line}");
        written.push((at, bytes));
    }
    let mounts: Vec<_> = written.iter().map(|(at, _)| *at).collect();
    assert_eq!(mounts, ["/dev/shm", "/tmp", "/run", "/run/ws"]);
    assert!(written.iter().all(|(_, bytes)| *bytes > 0), "{written:?}");
    // All of them full leave memory for the desktop itself.
    assert!(written.iter().map(|(_, bytes)| bytes).sum::<u64>() < MEMORY / 2, "{written:?}");
    assert!(text.contains("DISPLAY-ANSWERS"));
    // No other folder can be written to.
    assert!(!text.contains("\nopen "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_writable_mount_of_a_desktop_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    every_writable_mount_is_bounded(dir.path()).await;
}

#[test]
fn every_writable_mount_of_an_unprivileged_agents_desktop_is_bounded() {
    run_as_nobody("unprivileged_mounts");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of the test above"]
async fn unprivileged_mounts() {
    let Some(dir) = state_dir() else { return };
    every_writable_mount_is_bounded(&dir).await;
}
