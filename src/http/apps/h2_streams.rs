//! Streams of an HTTP/2 connection, which requests, windows and even applications share: one whose
//! browser takes nothing, or whose application it may no longer have, ends alone.
//!
//! hyper gives each stream a task ([`Streams`]). The request's service, run in it, finds there
//! whose [`StreamProgress`] it is, and the answer's body ([`Taken`]) says when it was asked for more: what is
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
const FRAME_MAX: usize = 16 * 1024;

tokio::task_local! {
    static CURRENT_STREAM: Arc<StreamProgress>;
}

/// Whose turn it is on a stream. Read and written in the stream's task alone.
#[derive(Debug, Default)]
pub(super) struct StreamProgress {
    /// Pieces given so far.
    frames_given: AtomicU64,
    /// The last one was not asked on yet.
    waits_for_browser: AtomicBool,
    /// Ends the stream.
    reset_token: OnceLock<CancellationToken>,
}

impl StreamProgress {
    /// That of the stream in whose task this is asked; `None` on HTTP/1.1.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT_STREAM.try_with(Arc::clone).ok()
    }

    /// The stream ends, whatever it is at, when the token is cancelled.
    pub(super) fn reset_on(&self, token: CancellationToken) {
        let _ = self.reset_token.set(token);
    }
}

/// Runs a connection's streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct H2Executor {
    /// A browser that asks for nothing more of an answer for this long loses it.
    pub(super) stall: Duration,
}

impl<F> Executor<F> for H2Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let turn = Arc::<StreamProgress>::default();
        let mut watch = StreamWatchdog {
            progress: Arc::clone(&turn),
            stall: self.stall,
            timer: None,
            timed_frame: None,
            reset: None,
        };
        let watched = async move {
            let mut stream = pin!(stream);
            // Dropping a stream resets it (RFC 9113 section 6.4).
            poll_fn(|cx| {
                if stream.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { watch.poll(cx) }
            })
            .await;
        };
        tokio::spawn(CURRENT_STREAM.scope(turn, watched));
    }
}

/// Resolves when a stream must end.
struct StreamWatchdog {
    progress: Arc<StreamProgress>,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// The piece for which the timer runs.
    timed_frame: Option<u64>,
    reset: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl StreamWatchdog {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reset.is_none() {
            self.reset =
                self.progress.reset_token.get().map(|cut| Box::pin(cut.clone().cancelled_owned()));
        }
        if self.reset.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        if !self.progress.waits_for_browser.load(Ordering::Relaxed) {
            self.timed_frame = None;
            return Poll::Pending;
        }
        let stall = self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(stall)));
        let given = self.progress.frames_given.load(Ordering::Relaxed);
        if self.timed_frame != Some(given) {
            self.timed_frame = Some(given);
            timer.as_mut().reset(Instant::now() + stall);
        }
        timer.as_mut().poll(cx)
    }
}

/// An answer's body that says how it is taken.
pub(super) struct TrackedBody {
    body: Body,
    /// Of the last frame, what was too much for one piece.
    rest: Bytes,
    progress: Option<Arc<StreamProgress>>,
}

impl TrackedBody {
    /// On the stream of this turn; without one as it is.
    pub(super) fn new(body: Body, progress: Option<Arc<StreamProgress>>) -> Self {
        Self { body, rest: Bytes::new(), progress }
    }

    fn next_frame(&mut self, mut piece: Bytes, turn: &StreamProgress) -> Frame<Bytes> {
        if piece.len() > FRAME_MAX {
            self.rest = piece.split_off(FRAME_MAX);
        }
        turn.frames_given.fetch_add(1, Ordering::Relaxed);
        turn.waits_for_browser.store(true, Ordering::Relaxed);
        Frame::data(piece)
    }
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(turn) = self.progress.clone() else {
            return Pin::new(&mut self.body).poll_frame(cx);
        };
        turn.waits_for_browser.store(false, Ordering::Relaxed);
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(self.next_frame(rest, &turn))));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => self.next_frame(data, &turn),
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
