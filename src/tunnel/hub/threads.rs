//! Threads that run tunnels only.
//!
//! Few of them: every wakeup of one of a runtime's threads wakes another that looks for work to
//! steal, which would double the cost of a keystroke in an idle gateway. Half of the processors are
//! enough, because the other half encrypts TLS for the same streams.

use std::io;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// Half of the available processors, one at least.
pub fn worker_threads() -> usize {
    available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

/// A runtime that is shut down without waiting when dropped, even by one of its own tasks.
#[derive(Debug)]
pub(super) struct WorkerThreads(Option<Runtime>);

impl WorkerThreads {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(worker_threads())
            .thread_name("tunnels")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn runtime(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
