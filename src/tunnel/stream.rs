//! A TCP connection inside a tunnel, as an ordinary async stream.
//!
//! - A **pipe** is the bounded buffer pair between a stream's user and the tunnel's owner task.
//!   Each side locks it once for a batch of bytes, never per packet. Back-pressure: the reader's
//!   pipe fills, then TCP's receive window, and the sender stops.
//! - A stream with new work **notifies** the owner task. The owner services only notified streams
//!   and streams with received data.
//! - A stream **fails** when the connection is reset, times out, or the tunnel is closed. Data
//!   received before can still be read.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};

use crate::domain::sync::lock;
use crate::tunnel::cross_thread_waker::{RegisteredWaker, WakeBatcher};
use crate::tunnel::peer::{ByteQueue, ConnId, Peer, Profile, Progress};

/// How long data written before the user dropped the stream may take to be sent.
const LINGER: Duration = Duration::from_secs(20);

/// Notifications to the owner task of a tunnel.
#[derive(Debug)]
pub(super) struct StreamNotifier {
    pending: Mutex<Vec<ConnId>>,
    notify: Notify,
    /// The owner runs on other threads than the streams' users.
    cross_thread: bool,
}

impl StreamNotifier {
    pub(super) fn new(apart: bool) -> Arc<Self> {
        Arc::new(Self { pending: Mutex::default(), notify: Notify::new(), cross_thread: apart })
    }

    /// Wakes the owner for a reason other than a stream.
    pub(super) fn notify_owner(&self) {
        self.notify.notify_one();
    }

    fn notify_stream(&self, conn: ConnId) {
        lock(&self.pending).push(conn);
        self.notify.notify_one();
    }

    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    pub(super) fn drain_into(&self, into: &mut Vec<ConnId>) {
        into.append(&mut lock(&self.pending));
    }
}

#[derive(Debug, Default)]
struct State {
    received: ByteQueue,
    to_send: ByteQueue,
    reader: Option<RegisteredWaker>,
    writer: Option<RegisteredWaker>,
    /// The owner was notified and has not serviced this stream since.
    notified: bool,
    /// The receive buffer is full: the reader notifies the owner once there is space.
    read_blocked: bool,
    finished: bool,
    shutdown: bool,
    dropped: bool,
    failed: Option<io::ErrorKind>,
    /// When the owner first saw that the user is gone.
    dropped_at: Option<Instant>,
}

/// Shared by the owner task and a stream.
#[derive(Debug)]
pub(super) struct Pipe {
    state: Mutex<State>,
    limit: usize,
    conn: ConnId,
    notifier: Arc<StreamNotifier>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceResult {
    /// Nothing more can be done now.
    Serviced,
    /// The user is gone and its data is not sent yet: to be serviced in each round.
    Draining,
    /// The user or the connection is gone: to be removed.
    Closed,
}

impl Pipe {
    pub(super) fn new(conn: ConnId, profile: Profile, calls: Arc<StreamNotifier>) -> Arc<Self> {
        let limit = match profile {
            Profile::Control => 64 << 10,
            Profile::Stream | Profile::Standard => 256 << 10,
        };
        Arc::new(Self { state: Mutex::default(), limit, conn, notifier: calls })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Notifies the owner, once until it services this stream.
    fn notify(&self, mut state: MutexGuard<'_, State>) {
        let already_notified = std::mem::replace(&mut state.notified, true);
        drop(state);
        if !already_notified {
            self.notifier.notify_stream(self.conn);
        }
    }

    /// Moves bytes both ways between the pipe and the peer. `fin_sent` is kept by the caller:
    /// shutdown was already requested. Wakers of tasks to be woken are added to `wakes`.
    pub(super) fn service(
        &self,
        peer: &mut Peer,
        fin_sent: &mut bool,
        wakes: &mut WakeBatcher,
        now: Instant,
    ) -> ServiceResult {
        let conn = self.conn;
        let mut guard = self.lock();
        let state = &mut *guard;
        state.notified = false;
        let (mut received, mut accepted) = (false, false);
        while !state.finished && !state.dropped && state.failed.is_none() {
            let space = self.limit.saturating_sub(state.received.len());
            state.read_blocked = space == 0;
            if space == 0 {
                break;
            }
            match peer.read(conn, &mut state.received, space, now) {
                Progress::Moved(_) => received = true,
                Progress::Pending => break,
                Progress::Finished => state.finished = true,
                Progress::Failed(kind) => state.failed = Some(kind),
            }
        }
        while !state.to_send.is_empty() && state.failed.is_none() {
            match peer.write(conn, &mut state.to_send) {
                Progress::Moved(_) => accepted = true,
                Progress::Pending => break,
                Progress::Finished => state.to_send.clear(),
                Progress::Failed(kind) => state.failed = Some(kind),
            }
        }
        if state.to_send.is_empty() && state.shutdown && !*fin_sent && state.failed.is_none() {
            *fin_sent = true;
            peer.shutdown(conn);
            accepted = true;
        }
        let linger_expired = state.dropped && now >= *state.dropped_at.get_or_insert(now) + LINGER;
        let closed = state.failed.is_some()
            || (state.dropped && (state.to_send.is_empty() || linger_expired));
        if state.dropped && (linger_expired || (closed && !state.received.is_empty())) {
            // Closed with unread data, or with data that the peer does not accept: reset (RFC 2525,
            // section 2.17).
            peer.abort(conn);
        }
        if closed {
            peer.release(conn, now);
        }
        let draining = state.dropped;
        let reader = if received || state.finished || state.failed.is_some() {
            state.reader.take()
        } else {
            None
        };
        let writer = if accepted || state.failed.is_some() { state.writer.take() } else { None };
        drop(guard);
        reader.into_iter().chain(writer).for_each(|waker| wakes.add(waker));
        match (closed, draining) {
            (true, _) => ServiceResult::Closed,
            (false, true) => ServiceResult::Draining,
            (false, false) => ServiceResult::Serviced,
        }
    }

    pub(super) fn fail(&self, kind: io::ErrorKind) {
        let mut state = self.lock();
        state.failed.get_or_insert(kind);
        state.to_send.clear();
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(RegisteredWaker::wake);
    }
}

/// A TCP connection inside a tunnel.
///
/// Both directions end separately. Dropping it closes the connection: with a FIN if everything
/// received was read, with a RST otherwise.
#[derive(Debug)]
pub struct TunnelStream {
    pipe: Arc<Pipe>,
}

impl TunnelStream {
    pub(super) fn new(pipe: Arc<Pipe>) -> Self {
        Self { pipe }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.pipe.lock();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if state.received.is_empty() {
            return match (state.failed, state.finished) {
                (_, true) => Poll::Ready(Ok(())),
                (Some(kind), false) => Poll::Ready(Err(kind.into())),
                (None, false) => {
                    RegisteredWaker::register(
                        &mut state.reader,
                        self.pipe.notifier.cross_thread,
                        cx,
                    );
                    Poll::Pending
                }
            };
        }
        while buf.remaining() > 0 && !state.received.is_empty() {
            let front = state.received.front();
            let n = front.len().min(buf.remaining());
            buf.put_slice(&front[..n]);
            state.received.consume(n);
        }
        if state.read_blocked && state.received.len() <= self.pipe.limit / 2 {
            state.read_blocked = false;
            self.pipe.notify(state);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.pipe.lock();
        if let Some(kind) = state.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if state.shutdown {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = buf.len().min(self.pipe.limit.saturating_sub(state.to_send.len()));
        if n == 0 && !buf.is_empty() {
            RegisteredWaker::register(&mut state.writer, self.pipe.notifier.cross_thread, cx);
            return Poll::Pending;
        }
        // While bytes are queued, the owner was already notified of them.
        let idle = state.to_send.is_empty();
        state.to_send.extend(&buf[..n]);
        if idle {
            self.pipe.notify(state);
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.pipe.lock().failed {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.pipe.lock();
        state.shutdown = true;
        self.pipe.notify(state);
        Poll::Ready(Ok(()))
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let mut state = self.pipe.lock();
        state.dropped = true;
        state.shutdown = true;
        self.pipe.notify(state);
    }
}

/// Incoming connections on one port of a tunnel.
#[derive(Debug)]
pub struct TunnelListener {
    pub(super) port: u16,
    pub(super) incoming: mpsc::Receiver<TunnelStream>,
    pub(super) notifier: Arc<StreamNotifier>,
}

impl TunnelListener {
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Errors when the tunnel is closed.
    pub async fn accept(&mut self) -> io::Result<TunnelStream> {
        self.incoming.recv().await.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }
}

impl Drop for TunnelListener {
    fn drop(&mut self) {
        self.incoming.close();
        self.notifier.notify_owner();
    }
}
