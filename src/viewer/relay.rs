//! Joins a browser and a desktop: three loops side by side, none waiting for another.
//!
//! - *up*: what the browser sends goes to the desktop. Input is never queued behind output.
//! - *down*: what the desktop sends goes to the browser. One chunk is in flight; the sink holds back, and so the desktop is held back.
//! - *heart*: pings, owed pongs, and the end of a browser that answers none.
//!
//! The first loop to end ends all. Whoever drops the relay cuts both sides at once, whatever it was waiting for.

use super::Limits;
use super::browser::{BrowserSink, BrowserSource, Heard};
use super::end::End;
use super::pulse::{Beat, Pulse};
use super::tap::{Direction, Tap};
use crate::broker::live::Meters;
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};

/// Room for one read from the desktop, at first and while it says little: what a quiet session costs.
const CHUNK_LEAST: usize = 4 * 1024;
/// Room for one read from a desktop that says much: several TLS records, and no more than what is worth waiting for at once.
const CHUNK_MOST: usize = 64 * 1024;

/// What each side has sent beyond its handshake.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    pub(super) from_browser: Bytes,
    pub(super) from_desktop: Bytes,
}

/// Who notes what passes.
pub(super) struct Observers<'a, T> {
    pub(super) meters: &'a Meters,
    pub(super) tap: &'a T,
}

impl<T: Tap> Observers<'_, T> {
    fn pass(&self, direction: Direction, chunk: &Bytes) {
        self.tap.pass(direction, chunk);
    }

    fn count(&self, direction: Direction, bytes: usize) {
        let meter: &AtomicU64 = match direction {
            Direction::Up => &self.meters.up,
            Direction::Down => &self.meters.down,
        };
        meter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Relays until one side ends.
pub(super) async fn relay<T: Tap>(
    desktop: impl AsyncRead + AsyncWrite,
    sink: impl BrowserSink,
    source: &mut impl BrowserSource,
    left: Leftovers,
    observers: Observers<'_, T>,
    limits: &Limits,
) -> End {
    let (reader, writer) = tokio::io::split(desktop);
    let life = Life::new(limits);
    tokio::select! {
        end = up(source, writer, left.from_browser, &observers, &life, limits) => end,
        end = down(reader, sink.clone(), left.from_desktop, &observers) => end,
        end = heart(sink, &life, limits) => end,
    }
}

async fn up<T: Tap>(
    source: &mut impl BrowserSource,
    mut desktop: impl AsyncWrite + Unpin,
    left: Bytes,
    observers: &Observers<'_, T>,
    life: &Life,
    limits: &Limits,
) -> End {
    let mut chunk = left;
    loop {
        if !chunk.is_empty() {
            observers.pass(Direction::Up, &chunk);
            life.pulse().pulse.deafen(Instant::now());
            let written = timeout(limits.stall, write(&mut desktop, &chunk)).await;
            life.pulse().pulse.listen(Instant::now());
            match written {
                Ok(Ok(())) => observers.count(Direction::Up, chunk.len()),
                Ok(Err(_)) => return End::DesktopGone,
                Err(_) => return End::DesktopStalled,
            }
        }
        consume_budget().await;
        chunk = match source.next().await {
            Ok(Heard::Bytes(bytes)) => bytes,
            Ok(Heard::Ping(payload)) => {
                life.owe(payload);
                Bytes::new()
            }
            Ok(Heard::Pong(payload)) => {
                if let Some(rtt) = life.pong(&payload) {
                    observers.meters.note_rtt(rtt);
                }
                Bytes::new()
            }
            Err(end) => return end,
        };
    }
}

async fn write(desktop: &mut (impl AsyncWrite + Unpin), chunk: &[u8]) -> io::Result<()> {
    desktop.write_all(chunk).await?;
    desktop.flush().await
}

async fn down<T: Tap>(mut desktop: impl AsyncRead + Unpin, mut sink: impl BrowserSink, left: Bytes, observers: &Observers<'_, T>) -> End {
    let (mut buffer, mut room) = (BytesMut::new(), CHUNK_LEAST);
    let mut chunk = left;
    loop {
        if !chunk.is_empty() {
            observers.pass(Direction::Down, &chunk);
            let length = chunk.len();
            if sink.send(chunk).await.is_err() {
                return End::BrowserGone;
            }
            observers.count(Direction::Down, length);
        }
        consume_budget().await;
        // `reserve` takes the old memory back when all its chunks are sent, and allocates only otherwise.
        if buffer.capacity() < room / 4 {
            buffer.reserve(room);
        }
        let offered = buffer.capacity();
        chunk = match desktop.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return End::DesktopGone,
            Ok(n) => {
                room = match n {
                    n if n >= offered => (room * 2).min(CHUNK_MOST),
                    n if n < room / 16 => (room / 2).max(CHUNK_LEAST),
                    _ => room,
                };
                buffer.split().freeze()
            }
        };
    }
}

async fn heart(mut sink: impl BrowserSink, life: &Life, limits: &Limits) -> End {
    loop {
        let (beat, owed) = {
            let mut state = life.pulse();
            (state.pulse.beat(Instant::now()), state.owed.take())
        };
        // Behind a blocked output a ping or pong waits, too; not longer than a browser may be silent. What it means is seen at the next beat.
        if let Some(payload) = owed
            && matches!(timeout(limits.patience, sink.pong(&payload)).await, Ok(Err(_)))
        {
            return End::BrowserGone;
        }
        match beat {
            Beat::Dead => return End::BrowserSilent,
            Beat::Ping(payload) => {
                if matches!(timeout(limits.patience, sink.ping(&payload)).await, Ok(Err(_))) {
                    return End::BrowserGone;
                }
            }
            Beat::Until(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = life.stirred.notified() => {}
            },
        }
    }
}

/// What *up* hears and *heart* acts on.
struct Life {
    state: Mutex<LifeState>,
    stirred: Notify,
}

struct LifeState {
    pulse: Pulse,
    /// The last ping of the browser that was not answered; older ones need no answer (RFC 6455 section 5.5.3).
    owed: Option<Bytes>,
}

impl Life {
    fn new(limits: &Limits) -> Self {
        let pulse = Pulse::new(limits.ping_every, limits.patience, Instant::now());
        Self { state: Mutex::new(LifeState { pulse, owed: None }), stirred: Notify::new() }
    }

    /// Held for a few instructions, never over an await.
    fn pulse(&self) -> MutexGuard<'_, LifeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owe(&self, payload: Bytes) {
        self.pulse().owed = Some(payload);
        self.stirred.notify_one();
    }

    fn pong(&self, payload: &[u8]) -> Option<std::time::Duration> {
        let rtt = self.pulse().pulse.pong(payload, Instant::now());
        self.stirred.notify_one();
        rtt
    }
}
