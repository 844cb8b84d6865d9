//! Relays between a browser and a desktop: three concurrent loops, none of which waits for another.
//!
//! - *up*: from the browser to the desktop. Input is never queued behind output.
//! - *down*: from the desktop to the browser. One chunk is in flight; the sink's backpressure stops
//!   the reads from the desktop.
//! - *keepalive*: pings, pending pongs, and the end of a stream whose pings are not answered.
//!
//! Each direction has a [`StreamFilter`]. Replies of a filter to the side it reads from go through
//! the other direction's loop, which inserts them between two messages. No loop waits for the other
//! one, so they cannot deadlock.
//!
//! The first loop to end ends the relay. Dropping the relay closes both sides at once, whatever it
//! was waiting for.

use super::browser::{BrowserEvent, BrowserSink, BrowserSource};
use super::injected_replies::InjectedReplies;
use super::outbound_frames::MAX_FRAME_PAYLOAD;
use super::ping::{PingAction, PingState};
use super::stream_audit::RefusalCounter;
use super::stream_end::StreamEnd;
use super::stream_filter::{Direction, Filtered, StreamFilter, StreamFilters};
use super::timeouts::Timeouts;
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

/// Read buffer at first and while the desktop sends little: the cost of an idle session.
const MIN_CHUNK: usize = 4 * 1024;
/// Most bytes of one read from a desktop that sends much: one frame.
const MAX_CHUNK: usize = MAX_FRAME_PAYLOAD;

/// Bytes that each side sent after its handshake.
#[derive(Debug, Default)]
pub(super) struct EarlyData {
    pub(super) from_browser: Bytes,
    pub(super) from_desktop: Bytes,
}

/// Counters of passed bytes and refused transfers.
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

/// Filter state of one direction: the filter, its output and counters, and the queues of replies:
/// `replies` to the side it reads from, `injected` from the other direction's filter.
struct FilteredDirection<'a, G> {
    filter: G,
    direction: Direction,
    filtered: Filtered,
    replies: &'a InjectedReplies,
    injected: &'a InjectedReplies,
    counters: StreamCounters<'a>,
}

impl<G: StreamFilter> FilteredDirection<'_, G> {
    /// Filters a chunk; [`FilteredDirection::next`] yields what may pass, also after an error.
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
            for reply in self.filtered.replies.drain(..) {
                if !self.replies.push(reply) {
                    return fed.and(Err(match self.direction {
                        Direction::Up => StreamEnd::BrowserUnresponsive,
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

    /// The next reply of the other direction's filter, when it may be inserted here. Never resolves
    /// otherwise.
    async fn next_injected(injected: &InjectedReplies, at_boundary: bool) -> Bytes {
        if at_boundary { injected.next().await } else { std::future::pending().await }
    }
}

pub(super) async fn relay<U: StreamFilter, D: StreamFilter>(
    desktop: impl AsyncRead + AsyncWrite,
    sink: impl BrowserSink,
    source: &mut impl BrowserSource,
    early_data: EarlyData,
    filters: StreamFilters<U, D>,
    counters: StreamCounters<'_>,
    timeouts: &Timeouts,
) -> StreamEnd {
    let (reader, writer) = tokio::io::split(desktop);
    let keepalive_state = KeepaliveState::new(timeouts);
    let (to_desktop, to_browser) = (InjectedReplies::default(), InjectedReplies::default());
    let upward = FilteredDirection {
        filter: filters.up,
        direction: Direction::Up,
        filtered: Filtered::default(),
        replies: &to_browser,
        injected: &to_desktop,
        counters,
    };
    let downward = FilteredDirection {
        filter: filters.down,
        direction: Direction::Down,
        filtered: Filtered::default(),
        replies: &to_desktop,
        injected: &to_browser,
        counters,
    };
    // Without a filter that replies, no loop polls for replies.
    let has_replies = U::REPLIES || D::REPLIES;
    tokio::select! {
        end = up(source, writer, early_data.from_browser, upward, has_replies, &keepalive_state, timeouts) => end,
        end = down(reader, sink.clone(), early_data.from_desktop, downward, has_replies) => end,
        end = keepalive(sink, &keepalive_state, timeouts) => end,
    }
}

async fn up<G: StreamFilter>(
    source: &mut impl BrowserSource,
    mut desktop: impl AsyncWrite + Unpin,
    early_data: Bytes,
    mut side: FilteredDirection<'_, G>,
    has_replies: bool,
    keepalive_state: &KeepaliveState,
    timeouts: &Timeouts,
) -> StreamEnd {
    let mut chunk = early_data;
    loop {
        if !chunk.is_empty() {
            let fed = side.feed(chunk);
            if let Err(end) = write(&mut desktop, &mut side, keepalive_state, timeouts).await {
                return end;
            }
            if let Err(end) = fed {
                return end;
            }
        }
        consume_budget().await;
        let event = if has_replies {
            let (injected, at_boundary) = (side.injected, side.filter.at_message_boundary());
            tokio::select! {
                biased;
                reply = FilteredDirection::<G>::next_injected(injected, at_boundary) => {
                    side.filtered.forward.push_back(reply);
                    if let Err(end) = write(&mut desktop, &mut side, keepalive_state, timeouts).await {
                        return end;
                    }
                    chunk = Bytes::new();
                    continue;
                }
                event = source.next() => event,
            }
        } else {
            source.next().await
        };
        chunk = match event {
            Ok(BrowserEvent::Bytes(bytes)) => bytes,
            Ok(BrowserEvent::Ping(payload)) => {
                keepalive_state.queue_pong(payload);
                Bytes::new()
            }
            Ok(BrowserEvent::Pong(payload)) => {
                if let Some(rtt) = keepalive_state.pong(&payload) {
                    side.counters.meters.record_rtt(rtt);
                }
                Bytes::new()
            }
            Err(end) => return end,
        };
    }
}

/// Writes what passed. No pong can be received meanwhile.
async fn write<G: StreamFilter>(
    desktop: &mut (impl AsyncWrite + Unpin),
    side: &mut FilteredDirection<'_, G>,
    keepalive_state: &KeepaliveState,
    timeouts: &Timeouts,
) -> Result<(), StreamEnd> {
    let Some(first) = side.next() else { return Ok(()) };
    keepalive_state.lock().ping.pause_reads(Instant::now());
    let written = timeout(timeouts.desktop_write, write_all(desktop, first, side)).await;
    keepalive_state.lock().ping.resume_reads(Instant::now());
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(StreamEnd::DesktopClosed),
        Err(_) => Err(StreamEnd::DesktopStalled),
    }
}

async fn write_all<G: StreamFilter>(
    desktop: &mut (impl AsyncWrite + Unpin),
    first: Bytes,
    side: &mut FilteredDirection<'_, G>,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(piece) = next {
        desktop.write_all(&piece).await?;
        side.counters.count(Direction::Up, piece.len());
        next = side.next();
    }
    desktop.flush().await
}

async fn down<G: StreamFilter>(
    mut desktop: impl AsyncRead + Unpin,
    mut sink: impl BrowserSink,
    early_data: Bytes,
    mut side: FilteredDirection<'_, G>,
    has_replies: bool,
) -> StreamEnd {
    let (mut buffer, mut read_size) = (BytesMut::new(), MIN_CHUNK);
    let mut chunk = early_data;
    loop {
        let fed = if chunk.is_empty() { Ok(()) } else { side.feed(chunk) };
        while let Some(piece) = side.next() {
            let length = piece.len();
            if sink.send(piece).await.is_err() {
                return StreamEnd::BrowserDisconnected;
            }
            side.counters.count(Direction::Down, length);
        }
        if let Err(end) = fed {
            return end;
        }
        consume_budget().await;
        // `reserve` reuses the old allocation once all its chunks are sent, and allocates only
        // otherwise.
        if buffer.capacity() < read_size / 4 {
            buffer.reserve(read_size);
        }
        let offered = buffer.capacity().min(MAX_CHUNK);
        let mut target = (&mut buffer).limit(offered);
        let read = if has_replies {
            let (injected, at_boundary) = (side.injected, side.filter.at_message_boundary());
            tokio::select! {
                biased;
                reply = FilteredDirection::<G>::next_injected(injected, at_boundary) => {
                    side.filtered.forward.push_back(reply);
                    chunk = Bytes::new();
                    continue;
                }
                read = desktop.read_buf(&mut target) => read,
            }
        } else {
            desktop.read_buf(&mut target).await
        };
        chunk = match read {
            Ok(0) | Err(_) => return StreamEnd::DesktopClosed,
            Ok(n) => {
                read_size = match n {
                    n if n >= offered => (read_size * 2).min(MAX_CHUNK),
                    n if n < read_size / 16 => (read_size / 2).max(MIN_CHUNK),
                    _ => read_size,
                };
                buffer.split().freeze()
            }
        };
    }
}

async fn keepalive(
    mut sink: impl BrowserSink,
    keepalive_state: &KeepaliveState,
    timeouts: &Timeouts,
) -> StreamEnd {
    loop {
        let (action, pending_pong) = {
            let mut state = keepalive_state.lock();
            (state.ping.poll(Instant::now()), state.pending_pong.take())
        };
        // A ping or pong waits behind blocked output, too, but not longer than the pong's time
        // limit. The next poll reports a timeout.
        if let Some(payload) = pending_pong
            && matches!(timeout(timeouts.pong, sink.pong(&payload)).await, Ok(Err(_)))
        {
            return StreamEnd::BrowserDisconnected;
        }
        match action {
            PingAction::TimedOut => return StreamEnd::BrowserUnresponsive,
            PingAction::Ping(payload) => {
                if matches!(timeout(timeouts.pong, sink.ping(&payload)).await, Ok(Err(_))) {
                    return StreamEnd::BrowserDisconnected;
                }
            }
            PingAction::WaitUntil(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = keepalive_state.changed.notified() => {}
            },
        }
    }
}

/// Shared by *up*, which receives pings and pongs, and *keepalive*, which acts on them.
struct KeepaliveState {
    state: Mutex<KeepaliveInner>,
    changed: Notify,
}

struct KeepaliveInner {
    ping: PingState,
    /// The browser's last ping that was not answered; older ones need no answer (RFC 6455 section
    /// 5.5.3).
    pending_pong: Option<Bytes>,
}

impl KeepaliveState {
    fn new(timeouts: &Timeouts) -> Self {
        let ping = PingState::new(timeouts.ping_interval, timeouts.pong, Instant::now());
        Self {
            state: Mutex::new(KeepaliveInner { ping, pending_pong: None }),
            changed: Notify::new(),
        }
    }

    /// Held for a few instructions, never across an await.
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
