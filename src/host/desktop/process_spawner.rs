//! The one thread that starts processes.
//!
//! "Die with your parent" (`PR_SET_PDEATHSIG`, prctl(2)) means the parent *thread*: a process
//! started from a thread pool dies when the pool retires that thread. So one thread, which lives as
//! long as the [`ProcessSpawner`], starts them all. When the agent dies, by whatever signal, that thread
//! dies with it, and the desktops follow.

use std::io;
use std::sync::mpsc;
use std::thread;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Most starts that may wait.
const QUEUE_MAX: usize = 64;

/// Starts processes from its own thread. Dropping it ends that thread, and with it what was
/// started.
#[derive(Debug)]
pub struct ProcessSpawner {
    requests: mpsc::SyncSender<(Command, oneshot::Sender<io::Result<Child>>)>,
}

impl ProcessSpawner {
    /// Starts the thread. Children belong to the current tokio runtime.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn new() -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let (orders, queue) =
            mpsc::sync_channel::<(Command, oneshot::Sender<io::Result<Child>>)>(QUEUE_MAX);
        thread::Builder::new().name("nursery".to_owned()).spawn(move || {
            let _inside = runtime.enter();
            for (mut command, answer) in queue {
                // Nobody waits any more: the child is dropped, and a dropped child is killed.
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(Self { requests: orders })
    }

    /// Starts a command.
    ///
    /// # Errors
    /// What starting it failed of.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send((command, answer)).map_err(|_| {
            io::Error::new(io::ErrorKind::ResourceBusy, "too many processes are being started")
        })?;
        answered.await.map_err(|_| io::Error::other("the nursery is closed"))?
    }
}
