//! Scopes: cgroups that systemd makes for a command, for agents that have none of their own.
//!
//! An unprivileged agent asks its user's systemd, a root agent the system's. `systemd-run --scope`
//! runs the command as itself, so that it stays the agent's child. The properties are those of
//! systemd.resource-control(5). What a scope holds is read in one before any desktop is started.

use super::limits::{CPU_WEIGHT, Limits};
use crate::domain::SessionId;
use crate::domain::host::DesktopLimit;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = "/usr/bin/systemd-run";
/// Present while systemd is the machine's first process (sd_booted(3)).
const SYSTEMD_RUNS: &str = "/run/systemd/system";
/// Longest wait for the first scope, in seconds, for `timeout`.
const TRY_SECONDS: &str = "5";
/// What a user's systemd is found by.
const USER_ENVIRONMENT: [&str; 2] = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
/// Prints the limits of its own group; its argument is where the hierarchy is mounted.
const TRY_SCRIPT: &str = r#"group="$1$(sed -n 's/^0:://p' /proc/self/cgroup)"
for file in memory.max pids.max cpu.weight; do echo "$file $(cat "$group/$file")"; done"#;

/// Has a systemd make scopes.
#[derive(Debug)]
pub(super) struct ScopeManager {
    program: PathBuf,
    is_user: bool,
    environment: Vec<(&'static str, OsString)>,
    /// First part of the units' names.
    name: String,
}

/// How a command is run in a scope.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) command_prefix: Vec<OsString>,
    pub(super) environment: Vec<(&'static str, OsString)>,
}

impl ScopeManager {
    /// The systemd of this agent, and the limits that its scopes hold; `None`: there is none, or it
    /// holds nothing. `mount`: where the hierarchy of version 2 is. Blocks for one scope.
    pub(super) fn detect(
        name: &str,
        limits: &Limits,
        mount: &Path,
    ) -> Option<(Self, BTreeSet<DesktopLimit>)> {
        if !Path::new(SYSTEMD_RUNS).is_dir() {
            return None;
        }
        let environment = USER_ENVIRONMENT
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)))
            .collect();
        let manager = Self {
            program: PROGRAM.into(),
            is_user: !rustix::process::geteuid().is_root(),
            environment,
            name: name.to_owned(),
        };
        let held = manager.try_scope(limits, mount)?;
        held.contains(&DesktopLimit::Memory).then_some((manager, held))
    }

    pub(super) fn scope(&self, session: SessionId, limits: &Limits) -> Scope {
        Scope {
            command_prefix: self.command_prefix(&session.to_string(), limits),
            environment: self.environment.clone(),
        }
    }

    fn command_prefix(&self, id: &str, limits: &Limits) -> Vec<OsString> {
        let mut prefix = vec![self.program.clone().into_os_string()];
        let mut push = |argument: String| prefix.push(argument.into());
        if self.is_user {
            push("--user".to_owned());
        }
        for argument in ["--scope", "--quiet", "--collect"] {
            push(argument.to_owned());
        }
        push(format!("--unit={}-{id}.scope", self.name));
        push(format!("--property=MemoryMax={}", limits.memory));
        push("--property=MemorySwapMax=0".to_owned());
        push(format!("--property=TasksMax={}", limits.processes));
        push(format!("--property=CPUWeight={CPU_WEIGHT}"));
        if let Some(percent) = limits.cpu_percent {
            push(format!("--property=CPUQuota={percent}%"));
        }
        push("--".to_owned());
        prefix
    }

    fn try_scope(&self, limits: &Limits, mount: &Path) -> Option<BTreeSet<DesktopLimit>> {
        let output = Command::new("timeout")
            .arg(TRY_SECONDS)
            .args(self.command_prefix("try", limits))
            .args(["sh", "-c", TRY_SCRIPT, "try"])
            .arg(mount)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let holds = |file: &str, most: u64| {
            let value = text.lines().find_map(|line| line.strip_prefix(file)?.strip_prefix(' '));
            value.and_then(|value| value.parse::<u64>().ok()).is_some_and(|value| value <= most)
        };
        let limits = [
            (DesktopLimit::Memory, "memory.max", limits.memory),
            (DesktopLimit::Processes, "pids.max", limits.processes),
            (DesktopLimit::Cpu, "cpu.weight", CPU_WEIGHT.into()),
        ];
        let held = limits.into_iter().filter(|(_, file, most)| holds(file, *most));
        Some(held.map(|(limit, ..)| limit).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A program in place of `systemd-run`, with the files of a group beside it.
    fn manager(script: &str) -> (tempfile::TempDir, ScopeManager) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("systemd-run");
        // Written by another process: an executable that this one has open could not be run while
        // another test starts a process.
        let written = Command::new("sh")
            .args(["-c", r#"printf '%s' "$1" >"$2"; chmod 755 "$2""#, "sh", script])
            .arg(&program)
            .status();
        assert!(written.unwrap().success());
        assert_ne!(fs::metadata(&program).unwrap().permissions().mode() & 0o111, 0);
        let environment = vec![("XDG_RUNTIME_DIR", folder.path().into())];
        (folder, ScopeManager { program, is_user: true, environment, name: "portcullis-1".into() })
    }

    #[test]
    fn only_limits_that_a_scope_holds_are_reported() {
        let limits = Limits::default();
        // It applies two of the properties, and runs the command.
        let (folder, manager) = manager(
            "#!/bin/sh\ng=\"$XDG_RUNTIME_DIR$(sed -n 's/^0:://p' /proc/self/cgroup)\"; mkdir -p \"$g\"\n\
             echo max >\"$g/pids.max\"\n\
             while [ \"$1\" != -- ]; do case \"$1\" in\n\
             *MemoryMax=*) echo \"${1##*=}\" >\"$g/memory.max\" ;;\n\
             *CPUWeight=*) echo \"${1##*=}\" >\"$g/cpu.weight\" ;; esac; shift; done\n\
             shift; exec \"$@\"\n",
        );
        let held = manager.try_scope(&limits, folder.path()).unwrap();
        assert_eq!(held, BTreeSet::from([DesktopLimit::Memory, DesktopLimit::Cpu]));
    }

    #[test]
    fn a_systemd_that_refuses_holds_nothing() {
        let (folder, manager) = manager("#!/bin/sh\necho no >&2; exit 1\n");
        let held = manager.try_scope(&Limits::default(), folder.path()).unwrap();
        assert_eq!(held, BTreeSet::new());
    }
}
