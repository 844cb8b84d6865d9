//! The process's limit of open files, and how many connections it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors of a connection: the socket, and a second handle that cuts a stream.
const FILES_PER_CONNECTION: u64 = 2;
/// For everything else: databases, tunnels, upstreams, connections that are not open yet.
const OTHER_FILES: u64 = 3584;
/// Fewer are not useful.
const CONNECTIONS_MIN: u64 = 64;

/// Raises the limit to what the system allows. Returns how many of the wanted connections it
/// suffices for: without file descriptors nothing new could be accepted, of anybody.
pub fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Without it the present limit stays.
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = allowed(wanted, files);
    if possible < wanted {
        tracing::warn!(
            wanted,
            possible,
            files,
            "the limit of open files (RLIMIT_NOFILE) allows fewer connections than limits.connections"
        );
    }
    possible
}

fn allowed(wanted: usize, files: u64) -> usize {
    // With a low limit, half of the files are for everything else.
    let for_connections = files.saturating_sub(OTHER_FILES).max(files / 2);
    let most = (for_connections / FILES_PER_CONNECTION).max(CONNECTIONS_MIN);
    wanted.min(usize::try_from(most).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_the_limit_of_files() {
        assert_eq!(allowed(8192, u64::MAX), 8192);
        assert_eq!(allowed(8192, 1_048_576), 8192);
        assert_eq!(allowed(8192, 16_384), 6400);
        assert_eq!(allowed(8192, 1024), 256);
        assert_eq!(allowed(8192, 10), 64);
        assert_eq!(allowed(100, 1024), 100);
    }
}
