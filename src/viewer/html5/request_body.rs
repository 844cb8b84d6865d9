//! A request body on its way from the browser to the application.

use super::body::{BoxError, filter_frame};
use super::lifecycle::Lifecycle;
use super::policy::Refusal;
use super::progress::RequestProgress;
use crate::broker::core::stream_registry::StreamMeters;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a request body waits for the application's `100 Continue` before it is sent anyway
/// (RFC 9110 section 10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(2);

/// A request body on its way to the application.
pub(super) struct RequestBody {
    incoming: Incoming,
    /// Its length, where the browser sent one.
    length: Option<u64>,
    /// Largest length that policy allows; 0: any.
    max_length: u64,
    progress: Arc<RequestProgress>,
    lifecycle: Arc<Lifecycle>,
    meters: Arc<StreamMeters>,
    expect_continue: Option<ExpectContinue>,
}

/// Holds a body back until the application asks for it. The browser is not asked earlier either:
/// hyper's server sends `100 Continue` when the body is first polled.
struct ExpectContinue {
    requested: Pin<Box<WaitForCancellationFutureOwned>>,
    timeout: Pin<Box<Sleep>>,
}

impl RequestBody {
    pub(super) fn new(
        incoming: Incoming,
        progress: Arc<RequestProgress>,
        lifecycle: Arc<Lifecycle>,
        meters: Arc<StreamMeters>,
        max_length: u64,
    ) -> Self {
        progress.set_body_incomplete(true);
        Self {
            length: incoming.size_hint().exact(),
            incoming,
            max_length,
            progress,
            lifecycle,
            meters,
            expect_continue: None,
        }
    }

    /// Holds the body back until the application sends `100 Continue`.
    pub(super) fn wait_for_continue(&mut self) {
        let token = CancellationToken::new();
        self.progress.set_continue_token(token.clone());
        self.expect_continue = Some(ExpectContinue {
            requested: Box::pin(token.cancelled_owned()),
            timeout: Box::pin(sleep(CONTINUE_TIMEOUT)),
        });
    }

    /// Its length, where the browser sent one.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.lifecycle.has_ended() {
            return Poll::Ready(Some(Err("the session has ended".into())));
        }
        if let Some(waiting) = &mut self.expect_continue {
            if waiting.requested.as_mut().poll(cx).is_pending() {
                ready!(waiting.timeout.as_mut().poll(cx));
                // After a response the body is sent only if the application still asks for it.
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
                    let sent = self.progress.count_up(data.len(), &self.meters);
                    self.lifecycle.touch();
                    if self.max_length > 0 && sent > self.max_length {
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
