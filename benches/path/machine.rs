//! The machine: its description, resource usage of processes, statistics.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Outcome, fail};

/// `/proc` counts CPU time in hundredths of a second on every Linux.
const CLOCK_TICK_SECONDS: f64 = 0.01;

/// One line that names the machine.
pub fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split_once(':'))
        .map_or("unknown CPU", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| proc_field(&text, "MemTotal:"))
        .unwrap_or(0)
        >> 20;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let wide = ["avx2", "avx512f", "vaes"]
        .into_iter()
        .filter(|flag| cpu.split_whitespace().any(|word| word == *flag))
        .collect::<Vec<_>>();
    format!("{model}, {cores} cores, {memory} GiB, Linux {}, {}", kernel.trim(), wide.join(" "))
}

/// Load averages now.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Raises the limit of open files to `wanted`, or as near as permitted; returns the new limit.
pub fn raise_open_file_limit(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(now.current) {
        return now.current.unwrap_or(u64::MAX);
    }
    let hard = if enough(now.maximum) { now.maximum } else { Some(wanted) };
    // Only root may exceed the hard limit.
    if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: hard }).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// CPU seconds, user and system, of a process and all its children, running or ended.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; fields 14 to 17 follow it (proc(5)).
    let own: f64 = stat.rsplit_once(')').map_or(0.0, |(_, rest)| {
        rest.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<f64>().ok()).sum()
    });
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children_cpu: f64 = children
        .flat_map(|text| {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .map(cpu_seconds)
        .sum();
    own * CLOCK_TICK_SECONDS + children_cpu
}

/// CPU seconds of this process.
pub fn own_cpu_seconds() -> f64 {
    cpu_seconds(std::process::id())
}

/// Anonymous resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    proc_field(&status, "RssAnon:").map(|kib| kib << 10).ok_or_else(|| fail("no RssAnon"))
}

/// Whether a program can be started by this name.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|dir| std::path::Path::new(dir).join(program).is_file())
}

fn proc_field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The `q`-quantile of some times; sorts them.
pub fn quantile(times: &mut [Duration], q: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get((last as f64 * q).round() as usize).copied().unwrap_or_default()
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
