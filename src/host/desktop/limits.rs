//! Resource limits of a desktop: rlimits inside its sandbox, and a cgroup around it where the
//! system permits one.
//!
//! A limit never exceeds the agent's own hard limit. Cgroups are best effort, since many
//! environments (containers, unprivileged agents) do not permit them; their absence is logged once.

use crate::domain::SessionId;
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const KILL_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Limits of the agent and of each desktop.
#[derive(Clone, Debug)]
pub struct Limits {
    pub desktops: usize,
    /// Bytes (cgroup).
    pub memory: u64,
    /// Processes and threads of a desktop (cgroup and rlimit).
    pub processes: u64,
    /// Hundredths of a processor (cgroup); `None`: no limit.
    pub cpu_percent: Option<u32>,
    /// Open files of one process.
    pub files: u64,
    /// Initial screen size.
    pub geometry: (u16, u16),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            desktops: 64,
            memory: 4 << 30,
            processes: 1024,
            cpu_percent: None,
            files: 4096,
            geometry: (1280, 800),
        }
    }
}

impl Limits {
    /// Arguments of `prlimit` that set the rlimits.
    #[must_use]
    pub fn prlimit(&self) -> Vec<String> {
        let capped = |resource, wanted: u64| {
            getrlimit(resource).maximum.map_or(wanted, |hard| hard.min(wanted))
        };
        vec![
            format!("--nproc={}", capped(Resource::Nproc, self.processes)),
            format!("--nofile={}", capped(Resource::Nofile, self.files)),
            "--core=0".to_owned(),
        ]
    }
}

/// Where cgroups can be created.
#[derive(Debug)]
pub struct Cgroups {
    /// One folder per hierarchy, with what it limits.
    parents: Vec<(PathBuf, Hierarchy)>,
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
}

impl Cgroups {
    /// Detects what the system permits. `name` distinguishes this agent's groups from others'.
    #[must_use]
    pub fn detect(name: &str) -> Self {
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let root = Path::new("/sys/fs/cgroup");
        let mut parents = Vec::new();
        for line in membership.lines() {
            // `hierarchy:controllers:path` (cgroups(7)).
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let path = path.trim_start_matches('/');
            let kinds: &[(&str, Hierarchy)] = &[
                ("memory", Hierarchy::Memory),
                ("pids", Hierarchy::Pids),
                ("cpu", Hierarchy::Cpu),
            ];
            if controllers.is_empty() {
                let here = root.join(path);
                if has_controllers(&here) {
                    parents.push((here.join(name), Hierarchy::Unified));
                }
            }
            for (word, kind) in kinds {
                if controllers.split(',').any(|c| c == *word) {
                    let mount = [root.join(controllers), root.join(word)]
                        .into_iter()
                        .find(|at| at.is_dir());
                    if let Some(mount) = mount {
                        parents.push((mount.join(path).join(name), *kind));
                    }
                }
            }
        }
        parents.retain(|(folder, kind)| create_parent_group(folder, *kind).is_ok());
        if parents.is_empty() {
            tracing::info!("cgroups are not permitted here: desktops have rlimits only");
        }
        let found = Self { parents };
        found.kill_leftovers();
        found
    }

    /// Kills what an earlier agent of this name left in its groups, and removes them.
    fn kill_leftovers(&self) {
        for (folder, _) in &self.parents {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    Group { folders: vec![entry.path()] }.kill_and_remove();
                }
            }
        }
    }

    /// Creates a desktop's groups; those that cannot be created are left out.
    #[must_use]
    pub fn create_group(&self, session: SessionId, limits: &Limits) -> Group {
        let mut folders = Vec::new();
        for (parent, kind) in &self.parents {
            let folder = parent.join(session.to_string());
            match fs::create_dir(&folder).and_then(|()| apply_limits(&folder, *kind, limits)) {
                Ok(()) => folders.push(folder),
                Err(error) => {
                    tracing::warn!(%error, ?kind, "a cgroup could not be created");
                    let _ = fs::remove_dir(&folder);
                }
            }
        }
        Group { folders }
    }
}

impl Group {
    /// The `cgroup.procs` files, into which a process writes its id to join.
    pub fn procs_files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.folders.iter().map(|folder| folder.join("cgroup.procs"))
    }

    /// Kills the processes in it and removes it, which works once it is empty. Blocks, for
    /// [`KILL_TIMEOUT`] at most.
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

fn has_controllers(folder: &Path) -> bool {
    let text = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    ["memory", "pids"].iter().all(|wanted| text.split_whitespace().any(|c| c == *wanted))
}

fn create_parent_group(folder: &Path, kind: Hierarchy) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if kind == Hierarchy::Unified {
        // Fails where the agent itself is in the parent group (version 2 permits no processes in
        // inner groups).
        if let Some(above) = folder.parent() {
            fs::write(above.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
        }
        fs::write(folder.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
    }
    Ok(())
}

fn apply_limits(folder: &Path, kind: Hierarchy, limits: &Limits) -> io::Result<()> {
    let write = |name: &str, value: String| fs::write(folder.join(name), value);
    match kind {
        Hierarchy::Memory => write("memory.limit_in_bytes", limits.memory.to_string()),
        Hierarchy::Pids => write("pids.max", limits.processes.to_string()),
        Hierarchy::Cpu => limits.cpu_percent.map_or(Ok(()), |percent| {
            write("cpu.cfs_period_us", "100000".to_owned())?;
            write("cpu.cfs_quota_us", (u64::from(percent) * 1000).to_string())
        }),
        Hierarchy::Unified => {
            write("memory.max", limits.memory.to_string())?;
            write("pids.max", limits.processes.to_string())?;
            limits.cpu_percent.map_or(Ok(()), |percent| {
                write("cpu.max", format!("{} 100000", u64::from(percent) * 1000))
            })
        }
    }
}
