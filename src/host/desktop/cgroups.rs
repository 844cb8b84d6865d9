//! Cgroups of desktops: they hold memory, processes and the share of the processors.
//!
//! - Version 1: a folder per controller, below the agent's own group.
//! - Version 2: folders below the agent's own group, where that is the agent's: delegated by systemd
//!   (`Delegate=yes`), owned by its user, or without a systemd on the machine. The agent moves itself
//!   into a group of its own there, since version 2 has no processes in inner groups (cgroups(7)).
//! - A **scope** ([`super::scope`]): systemd makes the group and applies the limits, where the agent
//!   has none of its own.
//!
//! What is found is tried before it is used: a process joins a group, and the limits are read back.

use super::limits::{CPU_WEIGHT, Limits};
use super::scope::{Scope, ScopeManager};
use crate::domain::SessionId;
use crate::domain::host::DesktopLimit;
use rustix::fs::getxattr;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const KILL_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Where the hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// Group of the agent itself, below its own (version 2).
const AGENT_GROUP: &str = "portcullis-agent";
/// [`CPU_WEIGHT`] in version 1.
const CPU_SHARES: u32 = 1024;
/// Joins cgroups and then executes the command that follows them. A shell, because a process must
/// join by itself before it has children. A desktop outside its group would have no limits, so it
/// does not start then.
const JOIN_SCRIPT: &str = r#"n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 1; shift; n=$((n-1)); done; exec "$@""#;

/// Where cgroups can be created, and which limits they hold.
#[derive(Debug)]
pub struct Cgroups {
    /// One folder per hierarchy, with what it limits.
    parents: Vec<(PathBuf, Hierarchy)>,
    scopes: Option<ScopeManager>,
    held: BTreeSet<DesktopLimit>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hierarchy {
    /// Version 1, one controller.
    Memory,
    Pids,
    Cpu,
    /// Version 2, all controllers.
    Unified,
}

/// A desktop's groups.
#[derive(Debug, Default)]
pub struct Group {
    folders: Vec<PathBuf>,
    scope: Option<Scope>,
}

impl Cgroups {
    /// Detects what the system permits. `name` distinguishes this agent's groups from others'.
    /// Blocks for a few processes.
    #[must_use]
    pub fn detect(name: &str, limits: &Limits) -> Self {
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let parents = own_groups(Path::new(MOUNT), &membership)
            .into_iter()
            .filter_map(|(own, kind)| Some((create_parent_group(&own, kind, name).ok()?, kind)))
            .collect();
        let mut found = Self { parents, scopes: None, held: BTreeSet::new() };
        found.kill_leftovers();
        let mut held = BTreeSet::new();
        found.parents.retain(|(parent, kind)| match try_group(parent, *kind, limits) {
            Ok(limits) => {
                held.extend(limits);
                true
            }
            Err(error) => {
                tracing::debug!(%error, ?kind, "cgroups cannot be used here");
                let _ = fs::remove_dir(parent);
                false
            }
        });
        if !held.contains(&DesktopLimit::Memory)
            && let Some((scopes, more)) = ScopeManager::detect(name, limits, Path::new(MOUNT))
        {
            held.extend(more);
            found.scopes = Some(scopes);
        }
        found.held = held;
        found
    }

    /// The limits that a desktop's groups hold.
    #[must_use]
    pub fn held(&self) -> &BTreeSet<DesktopLimit> {
        &self.held
    }

    /// Kills what an earlier agent of this name left in its groups, and removes them.
    fn kill_leftovers(&self) {
        for (folder, _) in &self.parents {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    Group { folders: vec![entry.path()], scope: None }.kill_and_remove();
                }
            }
        }
    }

    /// Creates a desktop's groups.
    ///
    /// # Errors
    /// When one of them cannot be created; none remains then.
    pub fn create_group(&self, session: SessionId, limits: &Limits) -> io::Result<Group> {
        let scope = self.scopes.as_ref().map(|scopes| scopes.scope(session, limits));
        let mut group = Group { folders: Vec::new(), scope };
        for (parent, kind) in &self.parents {
            let folder = parent.join(session.to_string());
            let created = fs::create_dir(&folder);
            group.folders.push(folder.clone());
            if let Err(error) = created.and_then(|()| apply(&folder, *kind, limits)) {
                group.kill_and_remove();
                return Err(error);
            }
        }
        Ok(group)
    }
}

impl Group {
    /// Arguments before a command, with which it runs in these groups.
    #[must_use]
    pub fn command_prefix(&self) -> Vec<OsString> {
        let mut prefix =
            self.scope.as_ref().map(|scope| scope.command_prefix.clone()).unwrap_or_default();
        prefix.extend(self.join_prefix());
        prefix
    }

    /// The same for another command: a scope takes one only.
    #[must_use]
    pub fn join_prefix(&self) -> Vec<OsString> {
        let mut prefix = Vec::new();
        if !self.folders.is_empty() {
            prefix.extend(["sh", "-c", JOIN_SCRIPT, "join"].map(OsString::from));
            prefix.push(self.folders.len().to_string().into());
            prefix.extend(self.folders.iter().map(|folder| folder.join("cgroup.procs").into()));
        }
        prefix
    }

    /// Environment of the command, beside `PATH`.
    #[must_use]
    pub fn environment(&self) -> &[(&'static str, OsString)] {
        self.scope.as_ref().map_or(&[], |scope| &scope.environment)
    }

    /// Kills the processes in it and removes it, which works once it is empty. A scope ends with its
    /// last process. Blocks, for [`KILL_TIMEOUT`] at most.
    pub fn kill_and_remove(&self) {
        let deadline = Instant::now() + KILL_TIMEOUT;
        for folder in &self.folders {
            loop {
                kill_all(folder);
                match fs::remove_dir(folder) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if Instant::now() >= deadline => {
                        tracing::warn!(%error, "a cgroup remains until the next start of the agent");
                        break;
                    }
                    Err(_) => std::thread::sleep(POLL_INTERVAL),
                }
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for (folder, _) in &self.parents {
            // Fails while a desktop is still ending; the next start of the agent removes it.
            let _ = fs::remove_dir(folder);
        }
    }
}

fn kill_all(folder: &Path) {
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// The agent's own groups, from `/proc/self/cgroup`: lines `hierarchy:controllers:path`
/// (cgroups(7)).
fn own_groups(mount: &Path, membership: &str) -> Vec<(PathBuf, Hierarchy)> {
    let mut groups = Vec::new();
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            // A second launcher of this agent finds the agent in the group made for it.
            let own = Path::new(path);
            let own = if own.ends_with(AGENT_GROUP) { own.parent().unwrap_or(own) } else { own };
            groups.push((mount.join(own), Hierarchy::Unified));
        }
        for (word, kind) in
            [("memory", Hierarchy::Memory), ("pids", Hierarchy::Pids), ("cpu", Hierarchy::Cpu)]
        {
            if controllers.split(',').any(|c| c == word) {
                let mounts = [mount.join(controllers), mount.join(word)];
                groups.extend(
                    mounts.into_iter().find(|at| at.is_dir()).map(|at| (at.join(path), kind)),
                );
            }
        }
    }
    groups
}

/// The group in which those of the desktops are created.
fn create_parent_group(own: &Path, kind: Hierarchy, name: &str) -> io::Result<PathBuf> {
    let parent = own.join(name);
    if kind == Hierarchy::Unified {
        if !is_delegated(own) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if enable_controllers(own).is_err() {
            move_agent(own)?;
            enable_controllers(own)?;
        }
    }
    match fs::create_dir(&parent) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if kind == Hierarchy::Unified {
        enable_controllers(&parent)?;
    }
    Ok(parent)
}

/// Whether this group of version 2 is the agent's to divide.
fn is_delegated(own: &Path) -> bool {
    let marked = |name: &str| {
        let mut value = [0; 8];
        getxattr(own, name, &mut value[..]).is_ok_and(|n| value[..n] == *b"1")
    };
    let uid = rustix::process::geteuid();
    let is_owned = fs::metadata(own).is_ok_and(|facts| facts.uid() == uid.as_raw());
    is_owned
        && (!uid.is_root()
            || marked("trusted.delegate")
            || marked("user.delegate")
            || !Path::new("/run/systemd/system").is_dir())
}

/// Enables what the group has of the controllers that limits need.
fn enable_controllers(group: &Path) -> io::Result<()> {
    let available = fs::read_to_string(group.join("cgroup.controllers"))?;
    let enabled: Vec<String> = ["memory", "pids", "cpu"]
        .into_iter()
        .filter(|wanted| available.split_whitespace().any(|c| c == *wanted))
        .map(|controller| format!("+{controller}"))
        .collect();
    if enabled.is_empty() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    fs::write(group.join("cgroup.subtree_control"), enabled.join(" "))
}

/// Moves the agent out of its group, if nobody else is in that.
fn move_agent(own: &Path) -> io::Result<()> {
    let pid = std::process::id().to_string();
    if fs::read_to_string(own.join("cgroup.procs"))?.lines().any(|line| line != pid) {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    let group = own.join(AGENT_GROUP);
    match fs::create_dir(&group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::write(group.join("cgroup.procs"), pid)
}

/// Creates a group, reads its limits back and has a process join it. Gives the limits it holds.
fn try_group(
    parent: &Path,
    kind: Hierarchy,
    limits: &Limits,
) -> io::Result<BTreeSet<DesktopLimit>> {
    let group = Group { folders: vec![parent.join("try")], scope: None };
    let tried = fs::create_dir(&group.folders[0]).and_then(|()| {
        apply(&group.folders[0], kind, limits)?;
        let prefix = group.command_prefix();
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg("true").stdin(Stdio::null()).stderr(Stdio::null());
        if !command.status()?.success() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(read_back(&group.folders[0], kind, limits))
    });
    group.kill_and_remove();
    tried
}

/// The files of a group that hold limits, and their values.
fn settings(kind: Hierarchy, limits: &Limits) -> Vec<(DesktopLimit, &'static str, u64)> {
    use DesktopLimit::{Cpu, Memory, Processes};
    match kind {
        Hierarchy::Memory => vec![(Memory, "memory.limit_in_bytes", limits.memory)],
        Hierarchy::Pids => vec![(Processes, "pids.max", limits.processes)],
        Hierarchy::Cpu => vec![(Cpu, "cpu.shares", CPU_SHARES.into())],
        Hierarchy::Unified => vec![
            (Memory, "memory.max", limits.memory),
            (Processes, "pids.max", limits.processes),
            (Cpu, "cpu.weight", CPU_WEIGHT.into()),
        ],
    }
}

/// Controllers that are not there have no files, and hold nothing.
fn apply(folder: &Path, kind: Hierarchy, limits: &Limits) -> io::Result<()> {
    let write = |name: &str, value: String| {
        let file = folder.join(name);
        if file.exists() { fs::write(file, value) } else { Ok(()) }
    };
    for (_, name, value) in settings(kind, limits) {
        write(name, value.to_string())?;
    }
    match kind {
        // With swap: no more than without.
        Hierarchy::Memory => write("memory.memsw.limit_in_bytes", limits.memory.to_string()),
        Hierarchy::Pids => Ok(()),
        Hierarchy::Cpu => limits.cpu_percent.map_or(Ok(()), |percent| {
            write("cpu.cfs_period_us", "100000".to_owned())?;
            write("cpu.cfs_quota_us", (u64::from(percent) * 1000).to_string())
        }),
        Hierarchy::Unified => {
            write("memory.swap.max", "0".to_owned())?;
            limits.cpu_percent.map_or(Ok(()), |percent| {
                write("cpu.max", format!("{} 100000", u64::from(percent) * 1000))
            })
        }
    }
}

/// The limits that a group holds. The kernel rounds memory down to pages.
fn read_back(folder: &Path, kind: Hierarchy, limits: &Limits) -> BTreeSet<DesktopLimit> {
    let holds = |name: &str, most: u64| {
        let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
        text.trim().parse::<u64>().is_ok_and(|value| value <= most)
    };
    settings(kind, limits)
        .into_iter()
        .filter(|(_, name, value)| holds(name, *value))
        .map(|(limit, ..)| limit)
        .collect()
}

#[cfg(test)]
mod tests;
