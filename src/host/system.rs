//! Load and memory of this machine, from procfs.

use super::control::Memory;

/// Load averages (proc(5), `/proc/loadavg`).
pub(super) fn load_averages() -> Option<[f64; 3]> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
}

/// Memory (proc(5), `/proc/meminfo`, in KiB).
pub(super) fn memory_info() -> Option<Memory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    };
    Some(Memory { total: of("MemTotal")?, available: of("MemAvailable")? })
}
