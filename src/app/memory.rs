//! Large buffers go back to the operating system.
//!
//! What waits in a tunnel's TCP connections or in a relay takes memory while it waits, in chunks of
//! up to 64 KiB. glibc gives such memory back, or keeps it, by two thresholds. The one above which
//! an allocation is a mapping of its own is raised, up to 32 MiB, with every such mapping that is
//! freed: what is large and short-lived would then come from memory that must be cleared, and stay
//! resident. And free memory at the top of a heap beyond 128 KiB is given back at once, only to be
//! asked for again, page by page, with the next burst. A threshold that was set is never raised
//! (mallopt(3)); it can be set only before `main`, so a long-lived process starts itself once more
//! with the setting in its environment.
//!
//! What is small is kept by each thread for its next use, seven pieces of a size unless set; a
//! thread that serves thirty requests at once takes and gives back more than that, and would look
//! through the heap for each. What is kept is memory all the same: with 120 pieces an idle session
//! took 0.4 KiB more.

use std::os::unix::process::CommandExt as _;

/// A threshold below the size of anything large and above that of anything allocated often; and,
/// for setting one stops glibc from adjusting the other, how much free memory is kept at the top of
/// the heap rather than given back and asked for again; and how many pieces of a size a thread
/// keeps.
pub const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "524288"),
    ("MALLOC_TRIM_THRESHOLD_", "16777216"),
    ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=32"),
];

/// Goes on in this process only if a setting is made, is not ours to make, or cannot be made: then
/// more memory is used, and nothing else is wrong.
pub fn reexec_with_malloc_settings() {
    if !cfg!(target_env = "gnu")
        || SETTINGS.iter().any(|(name, _)| std::env::var_os(name).is_some())
    {
        return;
    }
    let mut arguments = std::env::args_os();
    let (name, Ok(program)) = (arguments.next(), std::env::current_exe()) else { return };
    let mut again = std::process::Command::new(program);
    if let Some(name) = name {
        again.arg0(name);
    }
    let _failed = again.args(arguments).envs(SETTINGS).exec();
}
