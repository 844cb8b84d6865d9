//! Programs that end with the value that owns them, and with the test's process, however that
//! ends.

use super::wait::within_blocking;
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A command whose process is killed when the thread that starts it ends.
pub fn pdeathsig_command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", program])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A running program. When dropped, it gets SIGTERM, so that it removes its files, and SIGKILL if
/// it does not end.
pub struct PdeathsigChild(pub Child);

impl PdeathsigChild {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}: see .ci/setup")))
    }
}

impl Drop for PdeathsigChild {
    fn drop(&mut self) {
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        let _ = kill_process(pid, Signal::TERM);
        within_blocking(Duration::from_secs(20), || !matches!(self.0.try_wait(), Ok(None)));
    }
}

/// An X server, started by `command` with `-displayfd 1` among its arguments, and its display.
pub async fn x_server(command: &mut Command) -> (PdeathsigChild, String) {
    let mut server = PdeathsigChild::start(command.stdout(Stdio::piped()));
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let number = timeout(READY_TIMEOUT, lines.next_line())
        .await
        .expect("it starts")
        .unwrap()
        .expect("it says its display");
    (server, format!(":{}", number.trim()))
}
