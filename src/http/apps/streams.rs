//! Streams of an HTTP/2 connection, which requests, windows and even applications share: one whose
//! browser takes nothing, or whose application it may no longer have, ends alone.
//!
//! hyper gives each stream a task ([`Streams`]). The request's service, run in it, finds there
//! whose [`Turn`] it is, and the answer's body ([`Taken`]) says when it was asked for more: what is
//! given and not asked on is what the browser's window has no room for.

use crate::viewer::html5::{Body, BoxError};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Most bytes of an answer given at a time, so that a slow browser is seen to take something.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    static TURN: Arc<Turn>;
}

/// Whose turn it is on a stream. Read and written in the stream's task alone.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Pieces given so far.
    given: AtomicU64,
    /// The last one was not asked on yet.
    browsers: AtomicBool,
    /// Ends the stream.
    cut: OnceLock<CancellationToken>,
}

impl Turn {
    /// That of the stream in whose task this is asked; `None` on HTTP/1.1.
    pub(super) fn here() -> Option<Arc<Self>> {
        TURN.try_with(Arc::clone).ok()
    }

    /// The stream ends, whatever it is at, when the token is cancelled.
    pub(super) fn ends_with(&self, token: CancellationToken) {
        let _ = self.cut.set(token);
    }
}

/// Runs a connection's streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    /// A browser that asks for nothing more of an answer for this long loses it.
    pub(super) stall: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let turn = Arc::<Turn>::default();
        let mut watch = Watch {
            turn: Arc::clone(&turn),
            stall: self.stall,
            timer: None,
            since: None,
            cut: None,
        };
        let watched = async move {
            let mut stream = pin!(stream);
            // Dropping a stream resets it (RFC 9113 section 6.4).
            poll_fn(|cx| {
                if stream.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { watch.poll(cx) }
            })
            .await;
        };
        tokio::spawn(TURN.scope(turn, watched));
    }
}

/// Resolves when a stream must end.
struct Watch {
    turn: Arc<Turn>,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// The piece for which the timer runs.
    since: Option<u64>,
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Watch {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.cut.is_none() {
            self.cut = self.turn.cut.get().map(|cut| Box::pin(cut.clone().cancelled_owned()));
        }
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        if !self.turn.browsers.load(Ordering::Relaxed) {
            self.since = None;
            return Poll::Pending;
        }
        let stall = self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(stall)));
        let given = self.turn.given.load(Ordering::Relaxed);
        if self.since != Some(given) {
            self.since = Some(given);
            timer.as_mut().reset(Instant::now() + stall);
        }
        timer.as_mut().poll(cx)
    }
}

/// An answer's body that says how it is taken.
pub(super) struct Taken {
    body: Body,
    /// Of the last frame, what was too much for one piece.
    rest: Bytes,
    turn: Option<Arc<Turn>>,
}

impl Taken {
    /// On the stream of this turn; without one as it is.
    pub(super) fn new(body: Body, turn: Option<Arc<Turn>>) -> Self {
        Self { body, rest: Bytes::new(), turn }
    }

    fn give(&mut self, mut piece: Bytes, turn: &Turn) -> Frame<Bytes> {
        if piece.len() > PIECE {
            self.rest = piece.split_off(PIECE);
        }
        turn.given.fetch_add(1, Ordering::Relaxed);
        turn.browsers.store(true, Ordering::Relaxed);
        Frame::data(piece)
    }
}

impl hyper::body::Body for Taken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(turn) = self.turn.clone() else { return Pin::new(&mut self.body).poll_frame(cx) };
        turn.browsers.store(false, Ordering::Relaxed);
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(self.give(rest, &turn))));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => self.give(data, &turn),
                Err(other) => other,
            }))),
            end => Poll::Ready(end),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(body.lower().saturating_add(rest));
        hint
    }
}
