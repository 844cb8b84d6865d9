//! Resource limits of a desktop, and its rlimits.
//!
//! A limit never exceeds the agent's own hard limit. Which other limits a host can hold depends on
//! what the system permits its agent ([`super::cgroups`], docs/adr/0029): the agent tries them when
//! it starts, and reports those that it holds. Those that its settings require and that it does not
//! hold keep it from starting desktops.

use crate::domain::Network;
use crate::domain::host::DesktopLimit;
use rustix::process::{Resource, getrlimit};
use std::collections::BTreeSet;

/// Weight of each desktop's cgroup, and of its scope: equal shares while the processors are busy.
pub(super) const CPU_WEIGHT: u32 = 100;

/// What desktops with network may reach beside public addresses.
#[derive(Clone, Debug, Default)]
pub struct NetworkPolicy {
    /// Private networks.
    pub allow: Vec<Network>,
    /// The gateway's UDP endpoint, `host:port`; its addresses are never reached.
    pub gateway: Option<String>,
}

/// Limits of the agent and of each desktop.
#[derive(Clone, Debug)]
pub struct Limits {
    pub desktops: usize,
    /// Sessions on services: each only forwards connections.
    pub services: usize,
    /// Bytes (cgroup).
    pub memory: u64,
    /// Processes and threads of a desktop (cgroup and rlimit).
    pub processes: u64,
    /// Hundredths of a processor (cgroup); `None`: no limit.
    pub cpu_percent: Option<u32>,
    /// Open files of one process.
    pub files: u64,
    /// Bytes of a user's home, and of one file; `None`: no limit.
    pub home: Option<u64>,
    /// Without these no desktop is started.
    pub required: BTreeSet<DesktopLimit>,
    /// What desktops with network reach.
    pub network: NetworkPolicy,
    /// Initial screen size.
    pub geometry: (u16, u16),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            desktops: 64,
            services: 512,
            memory: 4 << 30,
            processes: 1024,
            cpu_percent: None,
            files: 4096,
            home: None,
            required: BTreeSet::new(),
            network: NetworkPolicy::default(),
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
        let mut arguments = vec![
            format!("--nproc={}", capped(Resource::Nproc, self.processes)),
            format!("--nofile={}", capped(Resource::Nofile, self.files)),
            "--core=0".to_owned(),
        ];
        arguments
            .extend(self.home.map(|bytes| format!("--fsize={}", capped(Resource::Fsize, bytes))));
        arguments
    }
}
