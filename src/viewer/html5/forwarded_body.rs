//! A response body on its way to the browser: counted, and aborted when the session ends.

use super::body::{BoxError, filter_frame};
use super::context::AppContext;
use super::request_log::RequestLogEntry;
use super::response_body::ResponseBody;
use crate::domain::web_app::RequestOutcome;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A response body on its way to the browser.
pub(super) struct ForwardedBody {
    upstream: ResponseBody,
    entry: RequestLogEntry,
    app: Arc<AppContext>,
    /// Whether its bytes count as use of the application. Those of event streams do not, since they
    /// arrive without the user's doing.
    is_use: bool,
}

impl ForwardedBody {
    pub(super) fn new(
        upstream: ResponseBody,
        entry: RequestLogEntry,
        app: Arc<AppContext>,
        is_use: bool,
    ) -> Self {
        Self { upstream, entry, app, is_use }
    }
}

impl hyper::body::Body for ForwardedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = if self.app.lifecycle.has_ended() {
            Poll::Ready(None)
        } else {
            Pin::new(&mut self.upstream).poll_frame(cx)
        };
        // The upstream connection is closed when the session ends, so the end of the body seen then
        // is not the end of the response.
        if self.app.lifecycle.has_ended() {
            self.entry.set_outcome(RequestOutcome::Revoked);
            return Poll::Ready(Some(Err("the session has ended".into())));
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                let frame = filter_frame(frame);
                if let Some(data) = frame.data_ref() {
                    self.entry.progress().count_down(data.len(), &self.app.grant.meters);
                    if self.is_use {
                        self.app.lifecycle.touch();
                    }
                }
                // hyper does not poll again once a body of known length is complete.
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

    fn is_end_stream(&self) -> bool {
        self.upstream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.upstream.size_hint()
    }
}

impl Drop for ForwardedBody {
    fn drop(&mut self) {
        // A body whose browser reads nothing is not polled at the end of the session.
        if self.app.lifecycle.has_ended() {
            self.entry.set_revoked();
        }
    }
}
