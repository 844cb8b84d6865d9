//! Threads for tunnels.
//!
//! Few: every wake of one of a runtime's threads wakes another that looks for more, and a keystroke
//! in an idle gateway would pay for both. Half of the processors are enough, because the other half
//! seals TLS for the same streams.

use std::io;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// How many threads serve tunnels best: half as many as there are processors, one at least.
pub fn worker_threads() -> usize {
    available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

/// A runtime that ends, without waiting, when this is dropped; even by one of its own tasks.
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
