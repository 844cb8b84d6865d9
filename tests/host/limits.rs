//! Bounds of a real desktop, with the agent that runs the tests and with an unprivileged one: what
//! it can write, use and call.
//!
//! An unprivileged agent is this program again, as the user nobody, with one ignored test.

use super::agent_process::{AgentProcess, state_dir};
use super::harness::{UIDS, home, run_in_desktop, spec, wait_until};
use portcullis::domain::UserId;
use portcullis::domain::host::DesktopLimit;
use portcullis::host::desktop::{LaunchError, Launcher, Limits};
use std::path::Path;
use std::process::Command;

const MEMORY: u64 = 512 << 20;

fn limits() -> Limits {
    Limits { memory: MEMORY, ..Limits::default() }
}

/// Runs one of the ignored tests below as the user nobody; as the present one if that is not root.
fn run_as_nobody(test: &str) {
    let agent = AgentProcess::new(rustix::process::geteuid().is_root());
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    agent.run(command, &format!("host::limits::{test}"));
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
    let dir = state_dir();
    every_writable_mount_is_bounded(&dir).await;
}

/// Takes more memory than a desktop may have, in one process.
const TAKE_MEMORY: &str = r#"
python3 -c "
taken = []
while len(taken) < 700: taken.append(bytearray(b'x') * (1 << 20))
print('TOOK-ALL')
"
echo "ended $?"
cat /proc/self/cgroup
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reports_only_the_limits_that_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = Launcher::new(dir.path(), limits(), UIDS).unwrap();
    let held = launcher.held_limits().clone();
    println!("held: {held:?}");
    assert!(!held.contains(&DesktopLimit::Home), "no home limit is set");
    let text = run_in_desktop(&launcher, dir.path(), spec(UserId::new()).0, TAKE_MEMORY).await;
    println!("{text}");
    // It says so if, and only if, it is so.
    assert_eq!(held.contains(&DesktopLimit::Memory), !text.contains("TOOK-ALL"), "{held:?} {text}");
}

async fn required_limits_keep_desktops_from_starting(dir: &Path) {
    let held = Launcher::new(dir, limits(), UIDS).unwrap().held_limits().clone();
    let missing: Vec<_> =
        DesktopLimit::ALL.into_iter().filter(|limit| !held.contains(limit)).collect();
    println!("held: {held:?}, missing: {missing:?}");
    assert!(missing.contains(&DesktopLimit::Home));
    for limit in missing {
        let required = [limit].into();
        let launcher = Launcher::new(dir, Limits { required, ..limits() }, UIDS).unwrap();
        let refused = launcher.launch(spec(UserId::new()).0).await.unwrap_err();
        assert!(
            matches!(&refused, LaunchError::LimitsNotHeld(names) if names == limit.as_str()),
            "{refused}"
        );
        assert_eq!(std::fs::read_dir(dir.join("run")).unwrap().count(), 0);
    }
    let launcher = Launcher::new(dir, Limits { required: held, ..limits() }, UIDS).unwrap();
    launcher.launch(spec(UserId::new()).0).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_a_required_limit_starts_no_desktop() {
    let dir = tempfile::tempdir().unwrap();
    required_limits_keep_desktops_from_starting(dir.path()).await;
}

#[test]
fn an_unprivileged_agent_without_a_required_limit_starts_no_desktop() {
    run_as_nobody("unprivileged_required_limits");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of the test above"]
async fn unprivileged_required_limits() {
    let dir = state_dir();
    required_limits_keep_desktops_from_starting(&dir).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_is_bounded() {
    const QUOTA: u64 = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let bounded = Limits { home: Some(QUOTA), ..limits() };
    let launcher = Launcher::new(dir.path(), bounded, UIDS).unwrap();
    assert!(launcher.held_limits().contains(&DesktopLimit::Home));
    let user = UserId::new();
    // One file is bounded at once.
    let script = "head -c 20M /dev/zero >~/one 2>/dev/null; stat -c size=%s ~/one";
    let text = run_in_desktop(&launcher, dir.path(), spec(user).0, script).await;
    assert!(text.contains(&format!("size={QUOTA}\n")), "{text}");
    // A little above the limit: no new session, until there is less.
    let refused = launcher.launch(spec(user).0).await.unwrap_err();
    assert!(matches!(refused, LaunchError::HomeFull), "{refused}");
    std::fs::remove_file(home(dir.path(), user).join("one")).unwrap();
    // Far above it: the desktop is ended.
    let script = "for n in 1 2 3 4; do head -c 6M /dev/zero >~/$n; done";
    let home = home(dir.path(), user);
    std::fs::write(home.join(".bashrc"), script).unwrap();
    let desktop = launcher.launch(spec(user).0).await.unwrap();
    wait_until("a desktop that fills its home is ended", || !desktop.is_running()).await;
    desktop.stop().await;
    // Another user is not concerned.
    launcher.launch(spec(UserId::new()).0).await.unwrap().stop().await;
}

/// Makes system calls by number, and says which of them the kernel knows.
const CALLS: &str = r#"
python3 - <<'EOF'
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
second = platform.machine() != 'x86_64'
other = os.fork()
if other == 0:
    os.execvp('sleep', ['sleep', '60'])
def call(name, numbers, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(numbers[second], *[ctypes.c_long(a) for a in arguments])
    refusal = 1 if name.startswith(('unshare', 'clone ')) else 38
    print(name, 'refused' if result == -1 and ctypes.get_errno() == refusal else f'known {result} {ctypes.get_errno()}')
NEWUSER = 0x10000000
call('keyctl', (250, 219), 0, -3, 0)
call('add_key', (248, 217), 0, 0, 0, 0, -3)
call('bpf', (321, 280), 0, 0, 0)
call('mount', (165, 40), 0, 0, 0, 0, 0)
call('fsopen', (430, 430), 0, 0)
call('open_tree', (428, 428), -100, 0, 0)
call('unshare user', (272, 97), NEWUSER)
call('unshare net', (272, 97), 0x40000000)
call('clone user', (56, 220), NEWUSER | 17, 0, 0, 0, 0)
call('clone3', (435, 435), 0, 0)
call('setns', (308, 268), -1, 0)
call('perf_event_open', (298, 241), 0, 0, -1, -1, 0)
call('ptrace attach', (101, 117), 16, other, 0, 0)
call('ptrace seize', (101, 117), 0x4206, other, 0, 0)
call('process_vm_readv', (310, 270), other, 0, 0, 0, 0, 0)
call('pidfd_getfd', (438, 438), -1, 0, 0)
call('userfaultfd', (323, 282), 1)
call('io_uring_setup', (425, 425), 1, 0)
call('open_by_handle_at', (304, 265), -1, 0, 0)
call('socket vsock', (41, 198), 40, 1, 0)
call('socket alg', (41, 198), 38, 5, 0)
call('socket packet', (41, 198), 17, 3, 0)
call('ioctl tiocsti', (16, 29), 0, 0x5412, 0)
call('personality', (135, 92), 0x0040000)
print('permitted:')
call('socket unix', (41, 198), 1, 1, 0)
call('socket inet', (41, 198), 2, 1, 0)
call('unshare files', (272, 97), 0x400)
call('ptrace traceme', (101, 117), 0, 0, 0, 0)
os.kill(other, 9)
EOF
grep Seccomp /proc/self/status
timeout 60 chromium --no-sandbox --headless --disable-gpu --dump-dom 'data:text/html,<p>hello from the page</p>' 2>/dev/null
timeout 60 chromium --headless --disable-gpu --dump-dom 'data:text/html,<p>sandboxed page</p>' 2>&1 | grep -o -m 1 -e 'No usable sandbox' -e 'sandboxed page'
"#;

async fn system_calls_are_filtered(dir: &Path) {
    let launcher = Launcher::new(dir, Limits::default(), UIDS).unwrap();
    let text = run_in_desktop(&launcher, dir, spec(UserId::new()).0, CALLS).await;
    println!("{text}");
    let (refused, permitted) = text.split_once("permitted:\n").unwrap();
    assert_eq!(refused.lines().count(), 24, "{text}");
    for line in refused.lines() {
        assert!(line.ends_with(" refused"), "{line}");
    }
    for line in permitted.lines().take(4) {
        assert!(line.contains(" known ") && !line.contains(" known -1"), "{line}");
    }
    assert!(text.contains("Seccomp:\t2"), "{text}");
    assert!(text.contains("hello from the page"), "Chromium runs: {text}");
    // It needs user namespaces for its own sandbox, which desktops never had.
    assert!(text.contains("No usable sandbox"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn system_calls_of_a_desktop_are_filtered() {
    let dir = tempfile::tempdir().unwrap();
    system_calls_are_filtered(dir.path()).await;
}

#[test]
fn system_calls_of_an_unprivileged_agents_desktop_are_filtered() {
    run_as_nobody("unprivileged_system_calls");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of the test above"]
async fn unprivileged_system_calls() {
    let dir = state_dir();
    system_calls_are_filtered(&dir).await;
}
