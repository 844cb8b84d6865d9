//! Nothing outlives the tests: a shell knows the processes they have started, and ends those when
//! the test run is ended in their middle.
//!
//! A test ends its processes itself, also when it fails. A run that is killed cannot; then the
//! shell's input ends.

use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Reads `+ PID` and `- PID`. What is left when its input ends is asked to end, and ended.
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
    let mut warden = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    let warden = warden.get_or_insert_with(|| {
        let mut shell = Command::new("sh");
        // A group of its own: what is typed at the terminal is not meant for it.
        shell
            .args(["-c", GUARD_SCRIPT])
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        shell.spawn().unwrap()
    });
    writeln!(warden.stdin.as_mut().unwrap(), "{what} {pid}").unwrap();
}

/// A process that does not outlive the test run. Whoever has it ends it and waits for it.
pub struct GuardedChild(Child);

/// Starts one.
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
