//! Who a running desktop belongs to: one task, which waits for its end, brings it about when asked,
//! and clears up.

use super::limits::Group;
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

/// How long a desktop has to end by itself.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How much of what it said last is kept, to say why it failed.
const STDERR_TAIL_MAX: usize = 4096;

/// Where a desktop is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// It runs.
    Running,
    /// Its process ended; nothing more comes from it.
    Ended,
    /// Nothing of it is left: no process, no socket.
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

/// What the owner has to clear up.
pub(super) struct OwnedResources {
    pub(super) session_id: SessionId,
    pub(super) child: Child,
    pub(super) group: Group,
    pub(super) folder: PathBuf,
}

impl Desktop {
    /// Hands a child to its owner task.
    pub(super) fn supervised(
        estate: OwnedResources,
        password: SecretString,
        certificate: Option<String>,
        socket: Socket,
    ) -> Self {
        let stop = CancellationToken::new();
        let (phase, seen) = watch::channel(Phase::Running);
        let session_id = estate.session_id;
        let ready = Arc::<AtomicBool>::default();
        tokio::spawn(supervise(estate, stop.clone(), phase, Arc::clone(&ready)));
        Self {
            session_id,
            password,
            certificate,
            socket: Arc::new(socket),
            phase: seen,
            ready,
            stop: stop.drop_guard(),
        }
    }

    /// Its server greeted: what it says from now on is its user's.
    pub(super) fn mark_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Its session.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// What its server asks for.
    #[must_use]
    pub fn password(&self) -> &SecretString {
        &self.password
    }

    /// SHA-256 of its server's certificate, in hexadecimal, when it has one.
    #[must_use]
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// A new connection to its server.
    ///
    /// # Errors
    /// When it does not listen, or something else is in its place.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        self.socket.connect().await
    }

    /// What connects to it without keeping it alive.
    #[must_use]
    pub fn connector(&self) -> DesktopConnector {
        DesktopConnector { socket: self.socket.clone(), phase: self.phase.clone() }
    }

    /// Follows its life.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    /// Ends it; nothing of it is left when this returns.
    pub async fn stop(self) {
        let Self { mut phase, stop, .. } = self;
        stop.disarm().cancel();
        // An error means the owner is gone, which it is only after the desktop.
        let _ = phase.wait_for(|phase| *phase == Phase::Gone).await;
    }
}

/// A way to a desktop's server.
#[derive(Clone, Debug)]
pub struct DesktopConnector {
    socket: Arc<Socket>,
    phase: watch::Receiver<Phase>,
}

impl DesktopConnector {
    /// A new connection.
    ///
    /// # Errors
    /// As [`FakeDesktop::connect`].
    pub async fn connect(&self) -> io::Result<UnixStream> {
        self.socket.connect().await
    }

    /// Waits until the desktop's process has ended.
    pub async fn ended(&self) {
        let mut phase = self.phase.clone();
        let _ = phase.wait_for(|phase| *phase >= Phase::Ended).await;
    }
}

async fn supervise(
    mut estate: OwnedResources,
    stop: CancellationToken,
    phase: watch::Sender<Phase>,
    greeted: Arc<AtomicBool>,
) {
    let session = estate.session_id;
    // Everything in the sandbox holds this pipe: its end is the end of them all.
    let said = estate.child.stderr.take().map(|pipe| tokio::spawn(read_tail(pipe)));
    let asked = tokio::select! {
        _ = estate.child.wait() => false,
        () = stop.cancelled() => true,
    };
    if asked {
        terminate(&mut estate.child).await;
    }
    phase.send_replace(Phase::Ended);
    let mut last_words = String::new();
    if let Some(said) = said
        && let Ok(Ok(words)) = tokio::time::timeout(TERM_GRACE, said).await
    {
        last_words = words;
    }
    if !greeted.load(Ordering::Relaxed) {
        // Of the sandbox and the server alone: no user has been in it.
        tracing::warn!(%session, last_words = last_words.trim(), "desktop did not come up");
    } else if asked {
        tracing::info!(%session, "desktop stopped");
    } else {
        tracing::warn!(%session, "desktop ended by itself");
        tracing::debug!(%session, last_words, "what it said last");
    }
    let OwnedResources { group, folder, .. } = estate;
    let cleared = tokio::task::spawn_blocking(move || {
        group.kill_and_remove();
        std::fs::remove_dir_all(&folder)
    });
    if let Ok(Err(error)) = cleared.await {
        tracing::warn!(%session, %error, "a session's folder stays until the next start");
    }
    phase.send_replace(Phase::Gone);
}

/// Asks, waits, then does not ask. The child is not reaped before `wait` returns, so its id is
/// nobody else's meanwhile.
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

/// Reads to the end, keeping the last of it.
async fn read_tail(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut kept = VecDeque::with_capacity(STDERR_TAIL_MAX);
    let mut piece = [0; 1024];
    while let Ok(n @ 1..) = pipe.read(&mut piece).await {
        kept.drain(..(kept.len() + n).saturating_sub(STDERR_TAIL_MAX).min(kept.len()));
        kept.extend(&piece[..n]);
    }
    String::from_utf8_lossy(kept.make_contiguous()).into_owned()
}
