//! The body of an answer as it comes from the application: read when the browser takes it, and no
//! further. Its connection goes back to the pool when it was read to its end, and is closed when it
//! was not.

use super::app::Shared;
use super::body::BoxError;
use super::connection::Connection;
use crate::protocol::http1::{Chunk, ChunkedDecoder, Framing};
use crate::viewer::Duplex;
use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::OwnedSemaphorePermit;

/// What is to come.
enum Remaining {
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
    /// Another protocol, for which this is no body.
    Upgraded,
}

/// See the module.
pub(super) struct ResponseBody {
    /// Until the body is whole, or broken.
    connection: Option<Connection>,
    remaining: Remaining,
    /// The connection may carry another answer.
    is_persistent: bool,
    /// It broke off, which is not said yet.
    pending_error: Option<BoxError>,
    /// The browser's server has something that it had no chance to send yet: the head, or the last
    /// piece.
    has_unflushed_output: bool,
    shared: Arc<Shared>,
}

/// The next piece of a body.
enum BodyPart {
    Frame(Frame<Bytes>),
    End,
    /// Nothing of it has arrived.
    Incomplete,
}

impl ResponseBody {
    pub(super) fn new(
        connection: Connection,
        framing: Framing,
        keeps: bool,
        shared: Arc<Shared>,
    ) -> Self {
        let rest = match framing {
            Framing::Length(length) => Remaining::Length(length),
            Framing::Chunked => Remaining::Chunked(ChunkedDecoder::default()),
            Framing::UntilClose => Remaining::UntilClose,
        };
        let mut received = Self {
            connection: Some(connection),
            remaining: rest,
            is_persistent: keeps,
            pending_error: None,
            has_unflushed_output: true,
            shared,
        };
        if framing == Framing::Length(0) {
            received.release_connection();
        }
        received
    }

    /// An answer after which the connection speaks another protocol.
    pub(super) fn upgraded(connection: Connection, shared: Arc<Shared>) -> Self {
        Self {
            connection: Some(connection),
            remaining: Remaining::Upgraded,
            is_persistent: false,
            pending_error: None,
            has_unflushed_output: true,
            shared,
        }
    }

    /// The connection of such an answer, and what has arrived on it already.
    pub(super) fn into_stream(self) -> Option<(Box<dyn Duplex>, Bytes, Arc<OwnedSemaphorePermit>)> {
        self.connection.filter(|_| matches!(self.remaining, Remaining::Upgraded))?.into_stream()
    }

    /// It is whole: the connection is free, if it is kept and the request was sent to its end as
    /// well.
    fn release_connection(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.is_persistent {
            // A request that was not sent to its end by now leaves the connection in the middle of
            // it.
            let _ = connection.poll_upload(&mut Context::from_waker(Waker::noop()));
            self.shared.pool().checkin(connection, &self.shared);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            match next_part(&mut self.remaining, &mut connection.read_buf)? {
                BodyPart::Frame(frame) => {
                    if matches!(&self.remaining, Remaining::Length(0))
                        || matches!(&self.remaining, Remaining::Chunked(chunks) if chunks.is_done())
                    {
                        self.release_connection();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                BodyPart::End => {
                    self.release_connection();
                    return Poll::Ready(None);
                }
                BodyPart::Incomplete => {}
            }
            match connection.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if matches!(self.remaining, Remaining::UntilClose) => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Some(Err(
                        io::Error::from(io::ErrorKind::UnexpectedEof).into()
                    )));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Pending if connection.is_revoked_or_register(cx) => {
                    return Poll::Ready(Some(Err("the session has ended".into())));
                }
                Poll::Pending => {
                    return connection.poll_upload(cx).map(|broken| Some(Err(broken.into())));
                }
            }
        }
    }
}

/// What there is of a body in what has arrived.
fn next_part(rest: &mut Remaining, arrived: &mut BytesMut) -> Result<BodyPart, BoxError> {
    Ok(match rest {
        Remaining::Length(0) | Remaining::Upgraded => BodyPart::End,
        Remaining::Length(_) | Remaining::UntilClose if arrived.is_empty() => BodyPart::Incomplete,
        Remaining::Length(left) => {
            let many = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len());
            *left -= many as u64;
            BodyPart::Frame(Frame::data(arrived.split_to(many).freeze()))
        }
        Remaining::UntilClose => BodyPart::Frame(Frame::data(arrived.split().freeze())),
        Remaining::Chunked(chunks) => match chunks.decode(arrived)? {
            Some(Chunk::Data(data)) => BodyPart::Frame(Frame::data(data)),
            Some(Chunk::Trailers(trailers)) => BodyPart::Frame(Frame::trailers(trailers)),
            Some(Chunk::End) => BodyPart::End,
            None => BodyPart::Incomplete,
        },
    })
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.pending_error.is_none() {
            let polled = self.poll(cx);
            let Poll::Ready(Some(Err(error))) = polled else {
                self.has_unflushed_output = polled.is_ready();
                return polled;
            };
            self.connection = None;
            self.pending_error = Some(error);
            // An error ends the browser's connection, with what was not sent to it: that goes
            // first.
            if std::mem::take(&mut self.has_unflushed_output) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(self.pending_error.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none() && self.pending_error.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.remaining {
            Remaining::Length(left) => SizeHint::with_exact(left),
            Remaining::Chunked(_) | Remaining::UntilClose | Remaining::Upgraded => {
                SizeHint::default()
            }
        }
    }
}
