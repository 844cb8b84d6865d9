//! A shell that ends the processes of the tests when the test run is killed.
//!
//! A test ends its processes itself, also when it fails. A run that is killed cannot; then the
//! shell's input ends, and the shell ends what is registered.

use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Reads `+ PID` and `- PID`. When its input ends, the remaining processes get SIGTERM, then
/// SIGKILL.
const GUARD_SCRIPT: &str = r#"
trap '' INT TERM HUP
left=' '
while read -r what pid; do
    case "$what" in
        +) left="$left$pid " ;;
        -) left="${left%% $pid *} ${left#* $pid }" ;;
    esac
done
[ "$left" = ' ' ] && exit
kill -CONT $left
kill -TERM $left
for _ in $(seq 100); do
    kill -0 $left || exit
    sleep 0.1
done
kill -KILL $left
"#;

fn notify_guard(what: &str, pid: u32) {
    static GUARD: Mutex<Option<Child>> = Mutex::new(None);
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    let guard = guard.get_or_insert_with(|| {
        let mut shell = Command::new("sh");
        // Its own process group, so that Ctrl+C at the terminal does not reach it.
        shell
            .args(["-c", GUARD_SCRIPT])
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        shell.spawn().unwrap()
    });
    writeln!(guard.stdin.as_mut().unwrap(), "{what} {pid}").unwrap();
}

/// A process that is registered with the guard. Its owner ends it and waits for it.
pub struct GuardedChild(Child);

pub fn spawn_guarded(command: &mut Command) -> std::io::Result<GuardedChild> {
    let child = command.spawn()?;
    notify_guard("+", child.id());
    Ok(GuardedChild(child))
}

impl Deref for GuardedChild {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for GuardedChild {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for GuardedChild {
    fn drop(&mut self) {
        notify_guard("-", self.0.id());
    }
}
