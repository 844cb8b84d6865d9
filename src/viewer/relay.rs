//! Joins a browser and a desktop: three loops side by side, none waiting for another.
//!
//! - *up*: what the browser sends goes to the desktop. Input is never queued behind output.
//! - *down*: what the desktop sends goes to the browser. One chunk is in flight; the sink holds
//!   back, and so the desktop is held back.
//! - *heart*: pings, owed pongs, and the end of a browser that answers none.
//!
//! Each direction has its [`Gate`]. What a gate answers to the side it heard goes through the other
//! direction's loop, which puts it between two messages; no loop waits for the other one, so they
//! cannot wait for each other.
//!
//! The first loop to end ends all. Whoever drops the relay cuts both sides at once, whatever it was
//! waiting for.

use super::Timeouts;
use super::browser::{BrowserEvent, BrowserSink, BrowserSource};
use super::injected_replies::InjectedReplies;
use super::outbound_frames::MAX_FRAME_PAYLOAD;
use super::ping::{PingAction, PingState};
use super::stream_audit::RefusalCounter;
use super::stream_end::StreamEnd;
use super::stream_filter::{Direction, Filtered, StreamFilter, StreamFilters};
use crate::broker::core::stream_registry::StreamMeters;
use crate::domain::sync::lock;
use bytes::{BufMut as _, Bytes, BytesMut};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};

/// Room for one read from the desktop, at first and while it says little: what a quiet session
/// costs.
const MIN_CHUNK: usize = 4 * 1024;
/// Most bytes of one read from a desktop that says much: a frame, and no more than what is worth
/// waiting for at once.
const MAX_CHUNK: usize = MAX_FRAME_PAYLOAD;

/// What each side has sent beyond its handshake.
#[derive(Debug, Default)]
pub(super) struct EarlyData {
    pub(super) from_browser: Bytes,
    pub(super) from_desktop: Bytes,
}

/// Who notes what passes, and what does not.
#[derive(Clone, Copy)]
pub(super) struct StreamCounters<'a> {
    pub(super) meters: &'a StreamMeters,
    pub(super) refusals: &'a RefusalCounter,
}

impl StreamCounters<'_> {
    fn count(&self, direction: Direction, bytes: usize) {
        let meter: &AtomicU64 = match direction {
            Direction::Up => &self.meters.up,
            Direction::Down => &self.meters.down,
        };
        meter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A direction's gate, what it passed, and the ends of the answers: those for the other side to
/// send, and those that came from there.
struct FilteredDirection<'a, G> {
    filter: G,
    direction: Direction,
    filtered: Filtered,
    replies: &'a InjectedReplies,
    injected: &'a InjectedReplies,
    counters: StreamCounters<'a>,
}

impl<G: StreamFilter> FilteredDirection<'_, G> {
    /// Lets a chunk in; [`FilteredDirection::next`] gives what of it goes onward, also after an error.
    #[inline]
    fn feed(&mut self, chunk: Bytes) -> Result<(), StreamEnd> {
        let fed = self
            .filter
            .feed(chunk, &mut self.filtered)
            .map_err(|error| StreamEnd::Filter(self.direction, error));
        if !G::PASS_THROUGH {
            self.filtered
                .refused
                .drain(..)
                .for_each(|refused| self.counters.refusals.count(&refused));
            for answer in self.filtered.replies.drain(..) {
                if !self.replies.push(answer) {
                    return fed.and(Err(match self.direction {
                        Direction::Up => StreamEnd::PingTimeout,
                        Direction::Down => StreamEnd::DesktopStalled,
                    }));
                }
            }
        }
        fed
    }

    #[inline]
    fn next(&mut self) -> Option<Bytes> {
        self.filtered.forward.pop_front()
    }

    /// An answer of the other direction's gate, when this is the place for one. Never resolves
    /// where there can be none.
    async fn next_injected(due: &InjectedReplies, between: bool) -> Bytes {
        if between { due.next().await } else { std::future::pending().await }
    }
}

/// Relays until one side ends.
pub(super) async fn relay<U: StreamFilter, D: StreamFilter>(
    desktop: impl AsyncRead + AsyncWrite,
    sink: impl BrowserSink,
    source: &mut impl BrowserSource,
    left: EarlyData,
    gates: StreamFilters<U, D>,
    observers: StreamCounters<'_>,
    limits: &Timeouts,
) -> StreamEnd {
    let (reader, writer) = tokio::io::split(desktop);
    let life = KeepaliveState::new(limits);
    let (to_desktop, to_browser) = (InjectedReplies::default(), InjectedReplies::default());
    let passed = Filtered::default;
    let above = FilteredDirection {
        filter: gates.up,
        direction: Direction::Up,
        filtered: passed(),
        replies: &to_browser,
        injected: &to_desktop,
        counters: observers,
    };
    let below = FilteredDirection {
        filter: gates.down,
        direction: Direction::Down,
        filtered: passed(),
        replies: &to_desktop,
        injected: &to_browser,
        counters: observers,
    };
    // Where no gate answers, nobody listens for answers.
    let answers = U::REPLIES || D::REPLIES;
    tokio::select! {
        end = up(source, writer, left.from_browser, above, answers, &life, limits) => end,
        end = down(reader, sink.clone(), left.from_desktop, below, answers) => end,
        end = keepalive(sink, &life, limits) => end,
    }
}

async fn up<G: StreamFilter>(
    source: &mut impl BrowserSource,
    mut desktop: impl AsyncWrite + Unpin,
    left: Bytes,
    mut lock: FilteredDirection<'_, G>,
    answers: bool,
    life: &KeepaliveState,
    limits: &Timeouts,
) -> StreamEnd {
    let mut chunk = left;
    loop {
        if !chunk.is_empty() {
            let fed = lock.feed(chunk);
            if let Err(end) = write(&mut desktop, &mut lock, life, limits).await {
                return end;
            }
            if let Err(end) = fed {
                return end;
            }
        }
        consume_budget().await;
        let heard = if answers {
            let (due, between) = (lock.injected, lock.filter.at_message_boundary());
            tokio::select! {
                biased;
                answer = FilteredDirection::<G>::next_injected(due, between) => {
                    lock.filtered.forward.push_back(answer);
                    if let Err(end) = write(&mut desktop, &mut lock, life, limits).await {
                        return end;
                    }
                    chunk = Bytes::new();
                    continue;
                }
                heard = source.next() => heard,
            }
        } else {
            source.next().await
        };
        chunk = match heard {
            Ok(BrowserEvent::Bytes(bytes)) => bytes,
            Ok(BrowserEvent::Ping(payload)) => {
                life.queue_pong(payload);
                Bytes::new()
            }
            Ok(BrowserEvent::Pong(payload)) => {
                if let Some(rtt) = life.pong(&payload) {
                    lock.counters.meters.record_rtt(rtt);
                }
                Bytes::new()
            }
            Err(end) => return end,
        };
    }
}

/// Writes what passed. Meanwhile no pong can be heard.
async fn write<G: StreamFilter>(
    desktop: &mut (impl AsyncWrite + Unpin),
    lock: &mut FilteredDirection<'_, G>,
    life: &KeepaliveState,
    limits: &Timeouts,
) -> Result<(), StreamEnd> {
    let Some(first) = lock.next() else { return Ok(()) };
    life.lock().ping.pause_reads(Instant::now());
    let written = timeout(limits.desktop_write, write_all(desktop, first, lock)).await;
    life.lock().ping.resume_reads(Instant::now());
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(StreamEnd::DesktopClosed),
        Err(_) => Err(StreamEnd::DesktopStalled),
    }
}

async fn write_all<G: StreamFilter>(
    desktop: &mut (impl AsyncWrite + Unpin),
    first: Bytes,
    lock: &mut FilteredDirection<'_, G>,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(piece) = next {
        desktop.write_all(&piece).await?;
        lock.counters.count(Direction::Up, piece.len());
        next = lock.next();
    }
    desktop.flush().await
}

async fn down<G: StreamFilter>(
    mut desktop: impl AsyncRead + Unpin,
    mut sink: impl BrowserSink,
    left: Bytes,
    mut lock: FilteredDirection<'_, G>,
    answers: bool,
) -> StreamEnd {
    let (mut buffer, mut room) = (BytesMut::new(), MIN_CHUNK);
    let mut chunk = left;
    loop {
        let fed = if chunk.is_empty() { Ok(()) } else { lock.feed(chunk) };
        while let Some(piece) = lock.next() {
            let length = piece.len();
            if sink.send(piece).await.is_err() {
                return StreamEnd::BrowserDisconnected;
            }
            lock.counters.count(Direction::Down, length);
        }
        if let Err(end) = fed {
            return end;
        }
        consume_budget().await;
        // `reserve` takes the old memory back when all its chunks are sent, and allocates only
        // otherwise.
        if buffer.capacity() < room / 4 {
            buffer.reserve(room);
        }
        let offered = buffer.capacity().min(MAX_CHUNK);
        let mut place = (&mut buffer).limit(offered);
        let read = if answers {
            let (due, between) = (lock.injected, lock.filter.at_message_boundary());
            tokio::select! {
                biased;
                answer = FilteredDirection::<G>::next_injected(due, between) => {
                    lock.filtered.forward.push_back(answer);
                    chunk = Bytes::new();
                    continue;
                }
                read = desktop.read_buf(&mut place) => read,
            }
        } else {
            desktop.read_buf(&mut place).await
        };
        chunk = match read {
            Ok(0) | Err(_) => return StreamEnd::DesktopClosed,
            Ok(n) => {
                room = match n {
                    n if n >= offered => (room * 2).min(MAX_CHUNK),
                    n if n < room / 16 => (room / 2).max(MIN_CHUNK),
                    _ => room,
                };
                buffer.split().freeze()
            }
        };
    }
}

async fn keepalive(
    mut sink: impl BrowserSink,
    life: &KeepaliveState,
    limits: &Timeouts,
) -> StreamEnd {
    loop {
        let (beat, owed) = {
            let mut state = life.lock();
            (state.ping.poll(Instant::now()), state.pending_pong.take())
        };
        // Behind a blocked output a ping or pong waits, too; not longer than a browser may be
        // silent. What it means is seen at the next beat.
        if let Some(payload) = owed
            && matches!(timeout(limits.pong, sink.pong(&payload)).await, Ok(Err(_)))
        {
            return StreamEnd::BrowserDisconnected;
        }
        match beat {
            PingAction::TimedOut => return StreamEnd::PingTimeout,
            PingAction::Ping(payload) => {
                if matches!(timeout(limits.pong, sink.ping(&payload)).await, Ok(Err(_))) {
                    return StreamEnd::BrowserDisconnected;
                }
            }
            PingAction::WaitUntil(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = life.changed.notified() => {}
            },
        }
    }
}

/// What *up* hears and *heart* acts on.
struct KeepaliveState {
    state: Mutex<KeepaliveInner>,
    changed: Notify,
}

struct KeepaliveInner {
    ping: PingState,
    /// The last ping of the browser that was not answered; older ones need no answer (RFC 6455
    /// section 5.5.3).
    pending_pong: Option<Bytes>,
}

impl KeepaliveState {
    fn new(limits: &Timeouts) -> Self {
        let pulse = PingState::new(limits.ping_interval, limits.pong, Instant::now());
        Self {
            state: Mutex::new(KeepaliveInner { ping: pulse, pending_pong: None }),
            changed: Notify::new(),
        }
    }

    /// Held for a few instructions, never over an await.
    fn lock(&self) -> MutexGuard<'_, KeepaliveInner> {
        lock(&self.state)
    }

    fn queue_pong(&self, payload: Bytes) {
        self.lock().pending_pong = Some(payload);
        self.changed.notify_one();
    }

    fn pong(&self, payload: &[u8]) -> Option<std::time::Duration> {
        let rtt = self.lock().ping.pong(payload, Instant::now());
        self.changed.notify_one();
        rtt
    }
}

#[cfg(test)]
mod tests;
