//! An agent in a process of its own, as the present user or as the user nobody: this program again,
//! with one ignored test.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

/// Uid and gid of the user nobody.
const NOBODY: u32 = 65_534;
const STATE_DIR: &str = "PORTCULLIS_TEST_AGENT_FOLDER";

/// The state folder of the ignored tests.
pub fn state_dir() -> PathBuf {
    std::env::var_os(STATE_DIR).expect("this test is run by another, which sets it up").into()
}

pub struct AgentProcess {
    pub dir: tempfile::TempDir,
    state: PathBuf,
    as_nobody: bool,
}

impl AgentProcess {
    pub fn new(as_nobody: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        if as_nobody {
            chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self { dir, state, as_nobody }
    }

    /// Runs the ignored test `name`, which must pass. `command` runs its arguments.
    pub fn run(&self, mut command: Command, name: &str) {
        // A copy, because the build folder may be in a home that nobody else may enter.
        let program = self.dir.path().join("tests");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        if self.as_nobody {
            let id = NOBODY.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
            command.args(["--inh-caps=-all", "--bounding-set=-all", "--pdeathsig", "KILL"]);
        }
        let output = command
            .arg(&program)
            .args(["--exact", name, "--ignored", "--nocapture"])
            .current_dir(self.dir.path())
            .env(STATE_DIR, &self.state)
            .env("HOME", &self.state)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
