//! Processes of the tests: signals, and what runs below them.

use crate::support::process_guard::GuardedChild;
use crate::support::wait::within_blocking;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::Duration;

/// Asks a process to end, and ends it.
pub fn terminate(mut child: GuardedChild) {
    signal(child.id(), Signal::CONT);
    signal(child.id(), Signal::TERM);
    let mut ended = || !child.try_wait().is_ok_and(|status| status.is_none());
    if within_blocking(Duration::from_secs(20), &mut ended).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Sends a signal to one process.
pub fn signal(pid: u32, what: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, what);
    }
}

/// The display servers below a process.
pub fn display_servers(ancestor: u32) -> Vec<u32> {
    descendants_with_names(ancestor)
        .into_iter()
        .filter(|(_, name)| name == "Xtigervnc")
        .map(|(pid, _)| pid)
        .collect()
}

/// A process and all below it, itself first.
pub fn descendants(ancestor: u32) -> Vec<u32> {
    let below = descendants_with_names(ancestor)
        .into_iter()
        .map(|(pid, _)| pid)
        .filter(|&pid| pid != ancestor);
    std::iter::once(ancestor).chain(below).collect()
}

/// Ids and names of a process and all below it.
fn descendants_with_names(ancestor: u32) -> Vec<(u32, String)> {
    let all: Vec<(u32, u32, String)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| stat(&entry.path()))
        .collect();
    let parent = |pid: u32| all.iter().find(|(p, ..)| *p == pid).map(|(_, parent, _)| *parent);
    let below =
        |pid: u32| std::iter::successors(Some(pid), |&pid| parent(pid)).any(|pid| pid == ancestor);
    all.iter().filter(|(pid, ..)| below(*pid)).map(|(pid, _, name)| (*pid, name.clone())).collect()
}

/// Id, parent and name of a process.
fn stat(process: &Path) -> Option<(u32, u32, String)> {
    let pid = process.file_name()?.to_str()?.parse().ok()?;
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let parent = (fields.next()? != "Z").then(|| fields.next())??.parse().ok()?;
    Some((pid, parent, name.to_owned()))
}
