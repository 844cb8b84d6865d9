//! Bodies on their way: passed as they are, frame by frame, counted, and broken off when the
//! session ends. Nothing is copied or kept.

use super::allow::Refusal;
use super::app::Shared;
use super::head;
use super::received::Received;
use super::record::{Entry, Flow};
use crate::domain::web::RequestEnd;
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
const CONTINUE: Duration = Duration::from_secs(2);

/// The body of an answer: the gateway's own, or the application's as it comes.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of the gateway's own.
#[must_use]
pub fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A frame as it goes on: data as it is, trailers without what is only for one hop.
fn mapped(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        head::trailers(trailers);
    }
    frame
}

/// An answer on its way to the browser.
pub(super) struct Passing {
    incoming: Received,
    entry: Entry,
    shared: Arc<Shared>,
    /// Whether its bytes are use of the application: those of a stream of events that comes by
    /// itself are not.
    is_use: bool,
}

impl hyper::body::Body for Passing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Passing {
    pub(super) fn new(incoming: Received, entry: Entry, shared: Arc<Shared>, is_use: bool) -> Self {
        Self { incoming, entry, shared, is_use }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = if self.shared.is_over() {
            Poll::Ready(None)
        } else {
            Pin::new(&mut self.incoming).poll_frame(cx)
        };
        // The connection to the application is dropped at the end of the session: whatever was left
        // of the answer is not its end.
        if self.shared.is_over() {
            self.entry.ended(RequestEnd::Cut);
            return Poll::Ready(Some(Err("the session has ended".into())));
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                let frame = mapped(frame);
                if let Some(data) = frame.data_ref() {
                    self.entry.flow().down(data.len(), &self.shared);
                    if self.is_use {
                        self.shared.touch();
                    }
                }
                // The server may ask no further once a body of known length is whole.
                if self.incoming.is_end_stream() {
                    self.entry.ended(RequestEnd::Done);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.entry.ended(RequestEnd::ApplicationGone);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.entry.ended(RequestEnd::Done);
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // A browser that reads nothing lets nobody ask how it goes on.
        if self.shared.is_over() {
            self.entry.cut();
        }
    }
}

/// The body of a request on its way to the application, as it comes from the browser.
pub(super) struct Streaming {
    incoming: Incoming,
    /// Its length, where the browser said it.
    length: Option<u64>,
    flow: Arc<Flow>,
    shared: Arc<Shared>,
    waits: Option<Waits>,
}

/// A body held back until the application asks for it. The browser is not asked for it before
/// either: its server sends `100 Continue` when the body is first read.
struct Waits {
    asked: Pin<Box<WaitForCancellationFutureOwned>>,
    at_most: Pin<Box<Sleep>>,
}

impl Streaming {
    /// `waits`: until the application asks for it.
    pub(super) fn new(
        incoming: Incoming,
        flow: Arc<Flow>,
        shared: Arc<Shared>,
        waits: bool,
    ) -> Self {
        flow.streams(true);
        let waits = waits.then(|| {
            let asked = CancellationToken::new();
            flow.wait_for(asked.clone());
            Waits { asked: Box::pin(asked.cancelled_owned()), at_most: Box::pin(sleep(CONTINUE)) }
        });
        Self { length: incoming.size_hint().exact(), incoming, flow, shared, waits }
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
        if self.shared.is_over() {
            return Poll::Ready(Some(Err("the session has ended".into())));
        }
        if let Some(waits) = &mut self.waits {
            if waits.asked.as_mut().poll(cx).is_pending() {
                // Once there is an answer, silence is no longer consent.
                ready!(waits.at_most.as_mut().poll(cx));
                if self.flow.is_answered() {
                    return Poll::Pending;
                }
            }
            self.waits = None;
        }
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let frame = mapped(frame);
                if let Some(data) = frame.data_ref() {
                    let sent = self.flow.up(data.len(), &self.shared);
                    self.shared.touch();
                    let most = self.shared.terms().requests.max_request;
                    if most > 0 && sent > most {
                        self.flow.refuse();
                        return Poll::Ready(Some(Err(Refusal::Size.as_str().into())));
                    }
                }
                if self.incoming.is_end_stream() {
                    self.flow.streams(false);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => {
                self.flow.streams(false);
                Poll::Ready(None)
            }
        }
    }
}
