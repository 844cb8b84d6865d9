//! Streams of an HTTP/2 connection. Requests, tabs and even applications share the connection, so a
//! stream whose browser accepts nothing, or whose authorization is lost, must end alone.
//!
//! hyper spawns a task per stream through [`H2Executor`] or [`LocalH2Executor`], which keeps the stream's
//! [`StreamProgress`] in a task-local variable. The service reads it there, and the response body
//! ([`TrackedBody`]) updates it: a frame after which hyper does not poll for another waits for the
//! browser's flow-control window.

use super::connections::pool::RequestGuard;
use crate::viewer::html5::BoxError;
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

/// Largest data frame, in bytes, so that progress of a slow browser is noticed.
const FRAME_MAX: usize = 16 * 1024;

tokio::task_local! {
    static CURRENT_STREAM: Arc<StreamProgress>;
}

/// Progress of one stream. Read and written in the stream's task alone.
#[derive(Debug, Default)]
pub(in crate::http) struct StreamProgress {
    /// Frames produced so far.
    frames_sent: AtomicU64,
    /// The body was not polled again since the last frame.
    waits_for_browser: AtomicBool,
    /// Resets the stream.
    reset_token: OnceLock<CancellationToken>,
}

impl StreamProgress {
    /// That of the current task's stream; `None` on HTTP/1.1.
    pub(in crate::http) fn current() -> Option<Arc<Self>> {
        CURRENT_STREAM.try_with(Arc::clone).ok()
    }

    /// Resets the stream when the token is cancelled.
    pub(in crate::http) fn reset_on(&self, token: CancellationToken) {
        let _ = self.reset_token.set(token);
    }
}

/// Spawns the tasks of a connection's streams.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct H2Executor {
    /// A stream whose browser accepts nothing for this long is reset.
    pub(in crate::http) stall: Duration,
}

impl<F> Executor<F> for H2Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(supervise(stream, self.stall));
    }
}

/// The same for streams whose tasks stay on this thread.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct LocalH2Executor {
    pub(in crate::http) stall: Duration,
}

impl<F> Executor<F> for LocalH2Executor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(supervise(stream, self.stall));
    }
}

/// Runs a stream until it ends or must be reset.
fn supervise(stream: impl Future<Output = ()>, stall: Duration) -> impl Future<Output = ()> {
    let progress = Arc::<StreamProgress>::default();
    let mut watchdog = StreamWatchdog {
        progress: Arc::clone(&progress),
        stall,
        timer: None,
        timed_frame: None,
        reset: None,
    };
    let supervised = async move {
        let mut stream = pin!(stream);
        // Dropping the future of a stream resets it (RFC 9113 section 6.4).
        poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { watchdog.poll(cx) }
        })
        .await;
    };
    CURRENT_STREAM.scope(progress, supervised)
}

/// Resolves when a stream must be reset.
struct StreamWatchdog {
    progress: Arc<StreamProgress>,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// The frame for which the timer runs.
    timed_frame: Option<u64>,
    reset: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl StreamWatchdog {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reset.is_none() {
            let token = self.progress.reset_token.get();
            self.reset = token.map(|token| Box::pin(token.clone().cancelled_owned()));
        }
        if self.reset.as_mut().is_some_and(|reset| reset.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        if !self.progress.waits_for_browser.load(Ordering::Relaxed) {
            self.timed_frame = None;
            return Poll::Pending;
        }
        let stall = self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(stall)));
        let sent = self.progress.frames_sent.load(Ordering::Relaxed);
        if self.timed_frame != Some(sent) {
            self.timed_frame = Some(sent);
            timer.as_mut().reset(Instant::now() + stall);
        }
        timer.as_mut().poll(cx)
    }
}

/// A response body that records its progress.
pub(in crate::http) struct TrackedBody<B> {
    body: B,
    /// Data beyond [`FRAME_MAX`] of the last frame.
    rest: Bytes,
    progress: Option<Arc<StreamProgress>>,
    /// The request is in progress until the body has ended.
    _request: Option<RequestGuard>,
}

impl<B> TrackedBody<B> {
    /// `progress`: of the stream; `None`: the body is passed through.
    pub(in crate::http) fn new(
        body: B,
        progress: Option<Arc<StreamProgress>>,
        request: Option<RequestGuard>,
    ) -> Self {
        Self { body, rest: Bytes::new(), progress, _request: request }
    }

    fn next_frame(&mut self, mut data: Bytes, progress: &StreamProgress) -> Frame<Bytes> {
        if data.len() > FRAME_MAX {
            self.rest = data.split_off(FRAME_MAX);
        }
        progress.frames_sent.fetch_add(1, Ordering::Relaxed);
        progress.waits_for_browser.store(true, Ordering::Relaxed);
        Frame::data(data)
    }
}

impl<B> hyper::body::Body for TrackedBody<B>
where
    B: hyper::body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(progress) = self.progress.clone() else {
            return Pin::new(&mut self.body).poll_frame(cx);
        };
        progress.waits_for_browser.store(false, Ordering::Relaxed);
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(self.next_frame(rest, &progress))));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => self.next_frame(data, &progress),
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
