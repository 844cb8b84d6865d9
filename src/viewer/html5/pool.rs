//! Connections to the application: made through the session's tunnel, kept while they are in use again and again, gone with the session.
//!
//! They belong to one login's opening of one session. Should an application answer twice and so spoil a connection, it can harm nobody else's requests.

use super::app::Shared;
use super::body::Upload;
use super::fault::Fault;
use super::serve::unless_over;
use super::stall::Stall;
use crate::domain::web::Scheme;
use crate::viewer::Duplex;
use crate::viewer::trust::{Expected, secure};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};

/// Most connections to an application at once: many browsers' worth, few enough for small servers.
const CONNECTIONS_MAX: usize = 256;
/// Most idle ones.
const IDLE_MAX: usize = 64;
/// An idle one is closed after this long; many servers close theirs sooner.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// A request that cannot be repeated takes only one used this lately: the application may be closing an older one at this moment.
const FRESH: Duration = Duration::from_secs(2);
/// Longest head of an answer, and most that is read ahead of a slow browser, in bytes.
const BUFFER: usize = 128 * 1024;
/// Most fields of an answer.
const FIELDS_MAX: usize = 256;

/// Asks over one connection.
pub(super) struct Sender {
    pub(super) asks: SendRequest<Upload>,
    /// Ends the wait for an answer. It is kept from one request to the next, and put forward only when it rings: setting it for each would tell the
    /// runtime's clock twice a request.
    pub(super) timer: Pin<Box<Sleep>>,
    /// Counts the connection, until it is closed.
    pub(super) seat: Arc<OwnedSemaphorePermit>,
    /// The thread that drives it: asking from another one wakes that, twice a request.
    home: ThreadId,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

/// The connections of one application.
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    seats: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self { idle: Mutex::default(), seats: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    /// An idle connection, one of this thread if there is one, the last used first. `repeatable`: the request may be sent again when it turns out to be closed.
    pub(super) fn take(&self, repeatable: bool) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.sender.asks.is_closed());
        let fit = |kept: &Idle| kept.sender.asks.is_ready() && kept.since.elapsed() < if repeatable { IDLE_FOR } else { FRESH };
        let here = thread::current().id();
        let at = idle.iter().rposition(|kept| kept.sender.home == here && fit(kept)).or_else(|| idle.iter().rposition(fit))?;
        let mut sender = idle.remove(at).sender;
        drop(idle);
        if sender.home != here {
            // That of another thread's clock ends with that thread.
            sender.timer = Box::pin(sleep(Duration::ZERO));
        }
        Some(sender)
    }

    /// Keeps one for the next request. It may be ready only a moment later, or, when it still sends a body, never.
    pub(super) fn put(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        if !sender.asks.is_closed() {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Closes those that idle too long; how many are left.
    pub(super) fn sweep(&self) -> usize {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.sender.asks.is_closed() && kept.since.elapsed() < IDLE_FOR);
        idle.len()
    }

    pub(super) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A new connection to the application of the lease, and to no other.
pub(super) async fn connect(shared: &Arc<Shared>) -> Result<Sender, Fault> {
    unless_over(shared, dialled(shared)).await
}

async fn dialled(shared: &Arc<Shared>) -> Result<Sender, Fault> {
    let limits = shared.limits();
    let seat = timeout(limits.dial, Arc::clone(&shared.pool().seats).acquire_owned()).await;
    let seat = Arc::new(seat.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Over)?);
    let lease = shared.lease();
    let stream = timeout(limits.dial, shared.dial().dial(lease)).await;
    let stream = stream.map_err(|_| Fault::Unreachable(io::ErrorKind::TimedOut.into()))?.map_err(Fault::Unreachable)?;
    let stream: Stall<Box<dyn Duplex>> = Stall::new(stream, limits.stall);
    match shared.terms().scheme {
        Scheme::Http => speak(stream, seat, shared).await,
        Scheme::Https => {
            let expected = Expected { trust: &lease.server().trust, address: lease.address(), name: shared.server_name(), limit: limits.dial };
            let secured = secure(stream, expected, &shared.books()).await.map_err(Fault::of)?;
            speak(secured.stream, seat, shared).await
        }
    }
}

async fn speak<S>(stream: S, seat: Arc<OwnedSemaphorePermit>, shared: &Arc<Shared>) -> Result<Sender, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = Builder::new().max_buf_size(BUFFER).max_headers(FIELDS_MAX).handshake(TokioIo::new(stream)).await;
    let (asks, connection) = begun.map_err(Fault::HungUp)?;
    let (over, held) = (shared.over_token().clone(), Arc::clone(&seat));
    tokio::spawn(async move {
        tokio::select! {
            biased;
            // Dropping the connection closes it, whatever is under way on it.
            () = over.cancelled() => {}
            ended = connection.with_upgrades() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "application.connection");
                }
            }
        }
        drop(held);
    });
    Ok(Sender { asks, timer: Box::pin(sleep(Duration::ZERO)), seat, home: thread::current().id() })
}
