//! The one thread that starts processes.
//!
//! `PR_SET_PDEATHSIG` (prctl(2)) refers to the parent *thread*: a process started from a thread
//! pool is killed when the pool ends that thread. So one thread, which exists as long as the
//! [`ProcessSpawner`], starts all processes, and they are killed when the agent dies.

use std::io;
use std::sync::mpsc;
use std::thread;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Most starts that wait.
const QUEUE_MAX: usize = 64;

/// Starts processes from its own thread. Dropping it ends that thread, and thereby the processes.
#[derive(Debug)]
pub struct ProcessSpawner {
    requests: mpsc::SyncSender<(Command, oneshot::Sender<io::Result<Child>>)>,
}

impl ProcessSpawner {
    /// Starts the thread. Children belong to the current tokio runtime.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn new() -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let (requests, queue) =
            mpsc::sync_channel::<(Command, oneshot::Sender<io::Result<Child>>)>(QUEUE_MAX);
        thread::Builder::new().name("process-spawner".to_owned()).spawn(move || {
            let _inside = runtime.enter();
            for (mut command, answer) in queue {
                // If the caller is gone, the child is dropped and thereby killed.
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(Self { requests })
    }

    /// # Errors
    /// The failure to start it; `ResourceBusy` when too many wait.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send((command, answer)).map_err(|_| {
            io::Error::new(io::ErrorKind::ResourceBusy, "too many processes are being started")
        })?;
        answered.await.map_err(|_| io::Error::other("the process spawner has ended"))?
    }
}
