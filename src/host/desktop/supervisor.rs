//! Supervision of a running desktop: one task owns its process and resources, waits for its end or
//! ends it on request, and removes what it used.

use super::cgroups::Group;
use super::home_usage::HomeLimit;
use super::socket::Socket;
use crate::domain::SessionId;
use crate::domain::secret::SecretString;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Time between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// Most bytes of the end of standard error that are kept for the log.
const STDERR_TAIL_MAX: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    Running,
    /// Its process has ended.
    Ended,
    /// No process, no socket and no cgroup remain.
    Gone,
}

/// A running desktop. Dropping it ends it.
#[derive(Debug)]
pub struct Desktop {
    session_id: SessionId,
    password: SecretString,
    certificate: Option<String>,
    socket: Arc<Socket>,
    phase: watch::Receiver<Phase>,
    ready: Arc<AtomicBool>,
    stop: DropGuard,
}

/// What the supervisor task removes at the end.
pub(super) struct OwnedResources {
    pub(super) session_id: SessionId,
    pub(super) child: Child,
    pub(super) group: Group,
    pub(super) folder: PathBuf,
    pub(super) home_limit: Option<HomeLimit>,
    /// What connects its network.
    pub(super) connection: Option<Child>,
}

impl Desktop {
    /// Starts the supervisor task of a child.
    pub(super) fn supervised(
        resources: OwnedResources,
        password: SecretString,
        certificate: Option<String>,
        socket: Socket,
    ) -> Self {
        let stop = CancellationToken::new();
        let (phase, phase_receiver) = watch::channel(Phase::Running);
        let session_id = resources.session_id;
        let ready = Arc::<AtomicBool>::default();
        tokio::spawn(supervise(resources, stop.clone(), phase, Arc::clone(&ready)));
        Self {
            session_id,
            password,
            certificate,
            socket: Arc::new(socket),
            phase: phase_receiver,
            ready,
            stop: stop.drop_guard(),
        }
    }

    /// Its server has greeted: standard error may hold the user's data from now on.
    pub(super) fn mark_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// The password of its server.
    #[must_use]
    pub fn password(&self) -> &SecretString {
        &self.password
    }

    /// SHA-256 of its server's certificate, hexadecimal, when it has one.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// A new connection to its server.
    ///
    /// # Errors
    /// When it does not listen, or its socket was replaced.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        self.socket.connect().await
    }

    /// Connects to it without keeping it running.
    #[must_use]
    pub fn connector(&self) -> DesktopConnector {
        DesktopConnector { socket: self.socket.clone(), phase: self.phase.clone() }
    }

    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    /// Ends it. Nothing of it remains when this returns.
    pub async fn stop(self) {
        let Self { mut phase, stop, .. } = self;
        stop.disarm().cancel();
        // An error means that the supervisor task has ended, which it does after the desktop.
        let _ = phase.wait_for(|phase| *phase == Phase::Gone).await;
    }
}

/// Connects to a desktop's server without owning the desktop.
#[derive(Clone, Debug)]
pub struct DesktopConnector {
    socket: Arc<Socket>,
    phase: watch::Receiver<Phase>,
}

impl DesktopConnector {
    /// A new connection.
    ///
    /// # Errors
    /// As [`Desktop::connect`].
    pub async fn connect(&self) -> io::Result<UnixStream> {
        self.socket.connect().await
    }

    /// Resolves when the desktop's process has ended.
    pub async fn ended(&self) {
        let mut phase = self.phase.clone();
        let _ = phase.wait_for(|phase| *phase >= Phase::Ended).await;
    }
}

async fn supervise(
    mut resources: OwnedResources,
    stop: CancellationToken,
    phase: watch::Sender<Phase>,
    greeted: Arc<AtomicBool>,
) {
    let session = resources.session_id;
    // Every process in the sandbox holds this pipe: it ends when the last of them has ended.
    let stderr = resources.child.stderr.take().map(|pipe| tokio::spawn(read_tail(pipe)));
    let home_limit = resources.home_limit.take();
    let home_exceeded = async {
        match home_limit {
            Some(limit) => limit.exceeded().await,
            None => std::future::pending().await,
        }
    };
    let requested = tokio::select! {
        _ = resources.child.wait() => false,
        () = stop.cancelled() => true,
        () = home_exceeded => {
            tracing::warn!(%session, "a desktop is ended: its user's home is far above its limit");
            true
        }
    };
    if requested {
        terminate(&mut resources.child).await;
    }
    phase.send_replace(Phase::Ended);
    let mut stderr_tail = String::new();
    if let Some(stderr) = stderr
        && let Ok(Ok(tail)) = tokio::time::timeout(TERM_GRACE, stderr).await
    {
        stderr_tail = tail;
    }
    if !greeted.load(Ordering::Relaxed) {
        // From the sandbox and the server only: no user has used it yet.
        tracing::warn!(%session, stderr_tail = stderr_tail.trim(), "desktop did not start");
    } else if requested {
        tracing::info!(%session, "desktop stopped");
    } else {
        tracing::warn!(%session, "desktop ended unexpectedly");
        tracing::debug!(%session, stderr_tail, "end of the desktop's standard error");
    }
    let OwnedResources { group, folder, connection, .. } = resources;
    if let Some(mut connection) = connection {
        let _ = connection.kill().await;
    }
    let cleared = tokio::task::spawn_blocking(move || {
        group.kill_and_remove();
        std::fs::remove_dir_all(&folder)
    });
    if let Ok(Err(error)) = cleared.await {
        tracing::warn!(%session, %error, "a session's folder remains until the next start of the agent");
    }
    phase.send_replace(Phase::Gone);
}

/// SIGTERM, then, after [`TERM_GRACE`], SIGKILL. The child is not reaped before `wait` returns, so
/// its id is not reused meanwhile.
async fn terminate(child: &mut Child) {
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else {
        return;
    };
    let _ = kill_process(pid, Signal::TERM);
    if tokio::time::timeout(TERM_GRACE, child.wait()).await.is_err() {
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = child.wait().await;
    }
}

/// Reads to the end and returns the last [`STDERR_TAIL_MAX`] bytes.
async fn read_tail(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut kept = VecDeque::with_capacity(STDERR_TAIL_MAX);
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
        kept.drain(..(kept.len() + n).saturating_sub(STDERR_TAIL_MAX).min(kept.len()));
        kept.extend(&chunk[..n]);
    }
    String::from_utf8_lossy(kept.make_contiguous()).into_owned()
}
