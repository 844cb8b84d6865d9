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

use super::Limits;
use super::backlog::Backlog;
use super::books::Tally;
use super::browser::{BrowserSink, BrowserSource, Heard};
use super::end::End;
use super::gate::{Direction, Gate, Gates, Passed};
use super::lane::FRAME;
use super::pulse::{Beat, Pulse};
use crate::broker::live::Meters;
use bytes::{BufMut as _, Bytes, BytesMut};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};

/// Room for one read from the desktop, at first and while it says little: what a quiet session
/// costs.
const CHUNK_LEAST: usize = 4 * 1024;
/// Most bytes of one read from a desktop that says much: a frame, and no more than what is worth
/// waiting for at once.
const CHUNK_MOST: usize = FRAME;

/// What each side has sent beyond its handshake.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    pub(super) from_browser: Bytes,
    pub(super) from_desktop: Bytes,
}

/// Who notes what passes, and what does not.
#[derive(Clone, Copy)]
pub(super) struct Observers<'a> {
    pub(super) meters: &'a Meters,
    pub(super) tally: &'a Tally,
}

impl Observers<'_> {
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
struct Lock<'a, G> {
    gate: G,
    direction: Direction,
    passed: Passed,
    answers: &'a Backlog,
    due: &'a Backlog,
    observers: Observers<'a>,
}

impl<G: Gate> Lock<'_, G> {
    /// Lets a chunk in; [`Lock::next`] gives what of it goes onward, also after an error.
    #[inline]
    fn feed(&mut self, chunk: Bytes) -> Result<(), End> {
        let fed = self
            .gate
            .feed(chunk, &mut self.passed)
            .map_err(|error| End::Gate(self.direction, error));
        if !G::OPEN {
            self.passed.refused.drain(..).for_each(|refused| self.observers.tally.note(&refused));
            for answer in self.passed.back.drain(..) {
                if !self.answers.push(answer) {
                    return fed.and(Err(match self.direction {
                        Direction::Up => End::BrowserSilent,
                        Direction::Down => End::DesktopStalled,
                    }));
                }
            }
        }
        fed
    }

    #[inline]
    fn next(&mut self) -> Option<Bytes> {
        self.passed.onward.pop_front()
    }

    /// An answer of the other direction's gate, when this is the place for one. Never resolves
    /// where there can be none.
    async fn answer(due: &Backlog, between: bool) -> Bytes {
        if between { due.next().await } else { std::future::pending().await }
    }
}

/// Relays until one side ends.
pub(super) async fn relay<U: Gate, D: Gate>(
    desktop: impl AsyncRead + AsyncWrite,
    sink: impl BrowserSink,
    source: &mut impl BrowserSource,
    left: Leftovers,
    gates: Gates<U, D>,
    observers: Observers<'_>,
    limits: &Limits,
) -> End {
    let (reader, writer) = tokio::io::split(desktop);
    let life = Life::new(limits);
    let (to_desktop, to_browser) = (Backlog::default(), Backlog::default());
    let passed = Passed::default;
    let above = Lock {
        gate: gates.up,
        direction: Direction::Up,
        passed: passed(),
        answers: &to_browser,
        due: &to_desktop,
        observers,
    };
    let below = Lock {
        gate: gates.down,
        direction: Direction::Down,
        passed: passed(),
        answers: &to_desktop,
        due: &to_browser,
        observers,
    };
    // Where no gate answers, nobody listens for answers.
    let answers = U::ANSWERS || D::ANSWERS;
    tokio::select! {
        end = up(source, writer, left.from_browser, above, answers, &life, limits) => end,
        end = down(reader, sink.clone(), left.from_desktop, below, answers) => end,
        end = heart(sink, &life, limits) => end,
    }
}

async fn up<G: Gate>(
    source: &mut impl BrowserSource,
    mut desktop: impl AsyncWrite + Unpin,
    left: Bytes,
    mut lock: Lock<'_, G>,
    answers: bool,
    life: &Life,
    limits: &Limits,
) -> End {
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
            let (due, between) = (lock.due, lock.gate.between());
            tokio::select! {
                biased;
                answer = Lock::<G>::answer(due, between) => {
                    lock.passed.onward.push_back(answer);
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
            Ok(Heard::Bytes(bytes)) => bytes,
            Ok(Heard::Ping(payload)) => {
                life.owe(payload);
                Bytes::new()
            }
            Ok(Heard::Pong(payload)) => {
                if let Some(rtt) = life.pong(&payload) {
                    lock.observers.meters.note_rtt(rtt);
                }
                Bytes::new()
            }
            Err(end) => return end,
        };
    }
}

/// Writes what passed. Meanwhile no pong can be heard.
async fn write<G: Gate>(
    desktop: &mut (impl AsyncWrite + Unpin),
    lock: &mut Lock<'_, G>,
    life: &Life,
    limits: &Limits,
) -> Result<(), End> {
    let Some(first) = lock.next() else { return Ok(()) };
    life.pulse().pulse.deafen(Instant::now());
    let written = timeout(limits.stall, write_all(desktop, first, lock)).await;
    life.pulse().pulse.listen(Instant::now());
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::DesktopGone),
        Err(_) => Err(End::DesktopStalled),
    }
}

async fn write_all<G: Gate>(
    desktop: &mut (impl AsyncWrite + Unpin),
    first: Bytes,
    lock: &mut Lock<'_, G>,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(piece) = next {
        desktop.write_all(&piece).await?;
        lock.observers.count(Direction::Up, piece.len());
        next = lock.next();
    }
    desktop.flush().await
}

async fn down<G: Gate>(
    mut desktop: impl AsyncRead + Unpin,
    mut sink: impl BrowserSink,
    left: Bytes,
    mut lock: Lock<'_, G>,
    answers: bool,
) -> End {
    let (mut buffer, mut room) = (BytesMut::new(), CHUNK_LEAST);
    let mut chunk = left;
    loop {
        let fed = if chunk.is_empty() { Ok(()) } else { lock.feed(chunk) };
        while let Some(piece) = lock.next() {
            let length = piece.len();
            if sink.send(piece).await.is_err() {
                return End::BrowserGone;
            }
            lock.observers.count(Direction::Down, length);
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
        let offered = buffer.capacity().min(CHUNK_MOST);
        let mut place = (&mut buffer).limit(offered);
        let read = if answers {
            let (due, between) = (lock.due, lock.gate.between());
            tokio::select! {
                biased;
                answer = Lock::<G>::answer(due, between) => {
                    lock.passed.onward.push_back(answer);
                    chunk = Bytes::new();
                    continue;
                }
                read = desktop.read_buf(&mut place) => read,
            }
        } else {
            desktop.read_buf(&mut place).await
        };
        chunk = match read {
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
        // Behind a blocked output a ping or pong waits, too; not longer than a browser may be
        // silent. What it means is seen at the next beat.
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
    /// The last ping of the browser that was not answered; older ones need no answer (RFC 6455
    /// section 5.5.3).
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

#[cfg(test)]
mod tests;
