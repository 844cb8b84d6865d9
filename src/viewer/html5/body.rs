//! Bodies on their way: passed as they are, frame by frame, counted, and broken off when the
//! session ends. Nothing is copied or kept.

use super::app::Shared;
use super::head;
use super::policy::Refusal;
use super::request_log::{RequestLogEntry, RequestProgress};
use super::response_body::ResponseBody;
use crate::domain::web_app::RequestOutcome;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a body fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a request's body waits for the application's `100 Continue` before it is sent all the
/// same (RFC 9110 section 10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(2);

/// The body of an answer: the gateway's own, or the application's as it comes.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of the gateway's own.
#[must_use]
pub fn full_body(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A frame as it goes on: data as it is, trailers without what is only for one hop.
fn filter_frame(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        head::filter_trailers(trailers);
    }
    frame
}

/// An answer on its way to the browser.
pub(super) struct ForwardedBody {
    upstream: ResponseBody,
    entry: RequestLogEntry,
    shared: Arc<Shared>,
    /// Whether its bytes are use of the application: those of a stream of events that comes by
    /// itself are not.
    is_use: bool,
}

impl hyper::body::Body for ForwardedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.upstream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.upstream.size_hint()
    }
}

impl ForwardedBody {
    pub(super) fn new(
        upstream: ResponseBody,
        entry: RequestLogEntry,
        shared: Arc<Shared>,
        is_use: bool,
    ) -> Self {
        Self { upstream, entry, shared, is_use }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = if self.shared.has_ended() {
            Poll::Ready(None)
        } else {
            Pin::new(&mut self.upstream).poll_frame(cx)
        };
        // The connection to the application is dropped at the end of the session: whatever was left
        // of the answer is not its end.
        if self.shared.has_ended() {
            self.entry.set_outcome(RequestOutcome::Revoked);
            return Poll::Ready(Some(Err("the session has ended".into())));
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                let frame = filter_frame(frame);
                if let Some(data) = frame.data_ref() {
                    self.entry.progress().count_down(data.len(), &self.shared);
                    if self.is_use {
                        self.shared.touch();
                    }
                }
                // The server may ask no further once a body of known length is whole.
                if self.upstream.is_end_stream() {
                    self.entry.set_outcome(RequestOutcome::Completed);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.entry.set_outcome(RequestOutcome::UpstreamAborted);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.entry.set_outcome(RequestOutcome::Completed);
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for ForwardedBody {
    fn drop(&mut self) {
        // A browser that reads nothing lets nobody ask how it goes on.
        if self.shared.has_ended() {
            self.entry.set_revoked();
        }
    }
}

/// The body of a request on its way to the application, as it comes from the browser.
pub(super) struct RequestBody {
    incoming: Incoming,
    /// Its length, where the browser said it.
    length: Option<u64>,
    progress: Arc<RequestProgress>,
    shared: Arc<Shared>,
    expect_continue: Option<ExpectContinue>,
}

/// A body held back until the application asks for it. The browser is not asked for it before
/// either: its server sends `100 Continue` when the body is first read.
struct ExpectContinue {
    requested: Pin<Box<WaitForCancellationFutureOwned>>,
    timeout: Pin<Box<Sleep>>,
}

impl RequestBody {
    /// `waits`: until the application asks for it.
    pub(super) fn new(
        incoming: Incoming,
        progress: Arc<RequestProgress>,
        shared: Arc<Shared>,
        waits: bool,
    ) -> Self {
        progress.set_body_incomplete(true);
        let expect_continue = waits.then(|| {
            let asked = CancellationToken::new();
            progress.set_continue_token(asked.clone());
            ExpectContinue {
                requested: Box::pin(asked.cancelled_owned()),
                timeout: Box::pin(sleep(CONTINUE_TIMEOUT)),
            }
        });
        Self { length: incoming.size_hint().exact(), incoming, progress, shared, expect_continue }
    }

    /// Its length, where it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next of it.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.shared.has_ended() {
            return Poll::Ready(Some(Err("the session has ended".into())));
        }
        if let Some(waits) = &mut self.expect_continue {
            if waits.requested.as_mut().poll(cx).is_pending() {
                // Once there is an answer, silence is no longer consent.
                ready!(waits.timeout.as_mut().poll(cx));
                if self.progress.has_response_started() {
                    return Poll::Pending;
                }
            }
            self.expect_continue = None;
        }
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let frame = filter_frame(frame);
                if let Some(data) = frame.data_ref() {
                    let sent = self.progress.count_up(data.len(), &self.shared);
                    self.shared.touch();
                    let most = self.shared.config().requests.max_request;
                    if most > 0 && sent > most {
                        self.progress.mark_too_large();
                        return Poll::Ready(Some(Err(Refusal::Size.as_str().into())));
                    }
                }
                if self.incoming.is_end_stream() {
                    self.progress.set_body_incomplete(false);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => {
                self.progress.set_body_incomplete(false);
                Poll::Ready(None)
            }
        }
    }
}
