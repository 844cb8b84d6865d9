//! The cost of waking a thread, and a way to run processes on one processor, where it is small.
//!
//! An idle processor of a virtual machine has exited to the hypervisor, and waking it takes tens of
//! microseconds; a round trip through three processes needs that at every step. On one processor,
//! the next thread runs as soon as the last one waits.

use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;
use crate::machine::quantile;

const ROUND_TRIPS: usize = 2_000;

fn processors() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|&n| set.is_set(n)).collect()
}

fn single_cpu_set(processor: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(processor);
    set
}

/// Time until a thread that waits on an idle processor, another than the caller's if
/// there is one, runs again: half of a round trip between two threads.
pub fn wakeup_latency() -> Duration {
    let here = processors();
    let (near, far) = (here.first().copied().unwrap_or(0), here.last().copied().unwrap_or(0));
    let ((there, requests), (back, replies)) = (mpsc::channel(), mpsc::channel());
    let other = std::thread::spawn(move || {
        let _ = sched_setaffinity(None, &single_cpu_set(far));
        requests.into_iter().try_for_each(|()| back.send(()))
    });
    let caller = std::thread::spawn(move || {
        let _ = sched_setaffinity(None, &single_cpu_set(near));
        let call = |_| {
            let began = Instant::now();
            there.send(()).ok().and_then(|()| replies.recv().ok()).map(|()| began.elapsed() / 2)
        };
        let mut times: Vec<_> = (0..ROUND_TRIPS).map_while(call).collect();
        quantile(&mut times, 0.5)
    });
    let time = caller.join().unwrap_or_default();
    let _ = other.join();
    time
}

/// While this lives, every thread of some processes runs on one processor.
pub struct SingleCpuPinning(Vec<(Pid, CpuSet)>);

impl SingleCpuPinning {
    pub fn pin(processes: &[u32]) -> Outcome<Self> {
        let one = single_cpu_set(processors().first().copied().unwrap_or(0));
        let mut pinning = Self(Vec::new());
        for process in processes {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok())
                    .and_then(Pid::from_raw);
                // A thread that has ended meanwhile is skipped.
                if let Some((thread, before)) =
                    thread.and_then(|thread| Some((thread, sched_getaffinity(Some(thread)).ok()?)))
                {
                    sched_setaffinity(Some(thread), &one)?;
                    pinning.0.push((thread, before));
                }
            }
        }
        Ok(pinning)
    }
}

impl Drop for SingleCpuPinning {
    fn drop(&mut self) {
        for (thread, before) in &self.0 {
            let _ = sched_setaffinity(Some(*thread), before);
        }
    }
}
