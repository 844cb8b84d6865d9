//! A TCP connection inside a tunnel, as an ordinary async stream.
//!
//! - A **pipe** is the bounded buffer pair between a stream's user and the tunnel's owner task.
//!   Each side locks it for a batch of bytes, never for a packet. Full means wait: the reader's
//!   pipe fills, then TCP's window, and the sender stops.
//! - Who did something with its stream **calls** the owner, which serves whoever called and whoever
//!   something arrived for, and nobody else.
//! - A stream **fails** when the connection is reset, times out, or the tunnel is closed; what had
//!   arrived before can still be read.

use crate::domain::sync::lock;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};

use crate::tunnel::cross_thread_waker::{RegisteredWaker, WakeBatcher};
use crate::tunnel::peer::{ByteQueue, ConnId, Peer, Profile, Progress};

/// How long what was written before the user left may take to be sent.
const LINGER: Duration = Duration::from_secs(20);

/// Calls to the owner of a tunnel.
#[derive(Debug)]
pub(super) struct StreamNotifier {
    pending: Mutex<Vec<ConnId>>,
    notify: Notify,
    /// The owner's threads are not its users': it wakes them by their bells.
    cross_thread: bool,
}

impl StreamNotifier {
    pub(super) fn new(apart: bool) -> Arc<Self> {
        Arc::new(Self { pending: Mutex::default(), notify: Notify::new(), cross_thread: apart })
    }

    /// Something is to be done, though for no connection.
    pub(super) fn notify_owner(&self) {
        self.notify.notify_one();
    }

    fn notify_stream(&self, conn: ConnId) {
        lock(&self.pending).push(conn);
        self.notify.notify_one();
    }

    /// Waits for a call.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Adds those that called.
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
    /// The owner was called and has not come yet.
    notified: bool,
    /// The owner has more than fits: the reader is to call when there is room.
    read_blocked: bool,
    finished: bool,
    shutdown: bool,
    dropped: bool,
    failed: Option<io::ErrorKind>,
    /// When the owner first saw that the user is gone.
    dropped_at: Option<Instant>,
}

/// What the owner task and a stream share. All times are the owner's.
#[derive(Debug)]
pub(super) struct Pipe {
    state: Mutex<State>,
    limit: usize,
    conn: ConnId,
    notifier: Arc<StreamNotifier>,
}

/// What became of a connection while its pipe was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceResult {
    /// All that can be done now.
    Serviced,
    /// Its user is gone, and what that wrote is not sent yet: it is to be served again before long.
    Draining,
    /// The user is gone, or the connection is: forget it.
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

    /// Calls the owner, once until it comes.
    fn notify(&self, mut state: MutexGuard<'_, State>) {
        let again = std::mem::replace(&mut state.notified, true);
        drop(state);
        if !again {
            self.notifier.notify_stream(self.conn);
        }
    }

    /// Moves bytes both ways between the pipe and the peer. `ended`: our FIN was asked for already;
    /// kept by the caller. Adds to `wakes` who is to be woken.
    pub(super) fn service(
        &self,
        peer: &mut Peer,
        ended: &mut bool,
        wakes: &mut WakeBatcher,
        now: Instant,
    ) -> ServiceResult {
        let conn = self.conn;
        let mut guard = self.lock();
        let state = &mut *guard;
        state.notified = false;
        let (mut moved_in, mut moved_out) = (false, false);
        while !state.finished && !state.dropped && state.failed.is_none() {
            let room = self.limit.saturating_sub(state.received.len());
            state.read_blocked = room == 0;
            if room == 0 {
                break;
            }
            match peer.read(conn, &mut state.received, room, now) {
                Progress::Moved(_) => moved_in = true,
                Progress::Pending => break,
                Progress::Finished => state.finished = true,
                Progress::Failed(kind) => state.failed = Some(kind),
            }
        }
        while !state.to_send.is_empty() && state.failed.is_none() {
            match peer.write(conn, &mut state.to_send) {
                Progress::Moved(_) => moved_out = true,
                Progress::Pending => break,
                Progress::Finished => state.to_send.clear(),
                Progress::Failed(kind) => state.failed = Some(kind),
            }
        }
        if state.to_send.is_empty() && state.shutdown && !*ended && state.failed.is_none() {
            *ended = true;
            peer.shutdown(conn);
            moved_out = true;
        }
        let overdue = state.dropped && now >= *state.dropped_at.get_or_insert(now) + LINGER;
        let over =
            state.failed.is_some() || (state.dropped && (state.to_send.is_empty() || overdue));
        if state.dropped && (overdue || (over && !state.received.is_empty())) {
            // Closed with data unread: the other end is told by a reset, as any TCP would (RFC
            // 2525, section 2.17). So is one that does not take what was written before the user
            // left.
            peer.abort(conn);
        }
        if over {
            peer.release(conn, now);
        }
        let leaving = state.dropped;
        let reader = if moved_in || state.finished || state.failed.is_some() {
            state.reader.take()
        } else {
            None
        };
        let writer = if moved_out || state.failed.is_some() { state.writer.take() } else { None };
        drop(guard);
        reader.into_iter().chain(writer).for_each(|waiting| wakes.add(waiting));
        match (over, leaving) {
            (true, _) => ServiceResult::Closed,
            (false, true) => ServiceResult::Draining,
            (false, false) => ServiceResult::Serviced,
        }
    }

    /// Fails the stream, whatever it was doing.
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
/// Both directions end separately. Dropping it closes the connection: in good order if everything
/// received was read, with a reset otherwise.
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
        // An owner that still has bytes to take was called when they came.
        let call = state.to_send.is_empty();
        state.to_send.extend(&buf[..n]);
        if call {
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

/// Connections that come in on one port of a tunnel.
#[derive(Debug)]
pub struct TunnelListener {
    pub(super) port: u16,
    pub(super) incoming: mpsc::Receiver<TunnelStream>,
    pub(super) notifier: Arc<StreamNotifier>,
}

impl TunnelListener {
    /// The port listened on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next connection; an error when the tunnel is closed.
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
