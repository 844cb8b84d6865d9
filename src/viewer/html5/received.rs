//! The body of an answer as it comes from the application: read when the browser takes it, and no
//! further. Its connection goes back to the pool when it was read to its end, and is closed when it
//! was not.

use super::app::Shared;
use super::body::BoxError;
use super::connection::Connection;
use crate::protocol::http1::{Chunk, Chunks, Framing};
use crate::viewer::Duplex;
use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::OwnedSemaphorePermit;

/// What is to come.
enum Rest {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    /// Another protocol, for which this is no body.
    Switched,
}

/// See the module.
pub(super) struct Received {
    /// Until the body is whole, or broken.
    connection: Option<Connection>,
    rest: Rest,
    /// The connection may carry another answer.
    keeps: bool,
    /// It broke off, which is not said yet.
    broken: Option<BoxError>,
    /// The browser's server has something that it had no chance to send yet: the head, or the last
    /// piece.
    unsent: bool,
    shared: Arc<Shared>,
}

/// The next piece of a body.
enum Piece {
    Frame(Frame<Bytes>),
    End,
    /// Nothing of it has arrived.
    None,
}

impl Received {
    pub(super) fn new(
        connection: Connection,
        framing: Framing,
        keeps: bool,
        shared: Arc<Shared>,
    ) -> Self {
        let rest = match framing {
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(Chunks::default()),
            Framing::UntilClose => Rest::UntilClose,
        };
        let mut received =
            Self { connection: Some(connection), rest, keeps, broken: None, unsent: true, shared };
        if framing == Framing::Length(0) {
            received.complete();
        }
        received
    }

    /// An answer after which the connection speaks another protocol.
    pub(super) fn switched(connection: Connection, shared: Arc<Shared>) -> Self {
        Self {
            connection: Some(connection),
            rest: Rest::Switched,
            keeps: false,
            broken: None,
            unsent: true,
            shared,
        }
    }

    /// The connection of such an answer, and what has arrived on it already.
    pub(super) fn into_stream(self) -> Option<(Box<dyn Duplex>, Bytes, Arc<OwnedSemaphorePermit>)> {
        self.connection.filter(|_| matches!(self.rest, Rest::Switched))?.into_stream()
    }

    /// It is whole: the connection is free, if it is kept and the request was sent to its end as
    /// well.
    fn complete(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.keeps {
            // A request that was not sent to its end by now leaves the connection in the middle of
            // it.
            let _ = connection.poll_sending(&mut Context::from_waker(Waker::noop()));
            self.shared.pool().put(connection, &self.shared);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            match next(&mut self.rest, &mut connection.arrived)? {
                Piece::Frame(frame) => {
                    if matches!(&self.rest, Rest::Length(0))
                        || matches!(&self.rest, Rest::Chunked(chunks) if chunks.is_done())
                    {
                        self.complete();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Piece::End => {
                    self.complete();
                    return Poll::Ready(None);
                }
                Piece::None => {}
            }
            match connection.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if matches!(self.rest, Rest::UntilClose) => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Some(Err(
                        io::Error::from(io::ErrorKind::UnexpectedEof).into()
                    )));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Pending if connection.is_over_or_wakes(cx) => {
                    return Poll::Ready(Some(Err("the session has ended".into())));
                }
                Poll::Pending => {
                    return connection.poll_sending(cx).map(|broken| Some(Err(broken.into())));
                }
            }
        }
    }
}

/// What there is of a body in what has arrived.
fn next(rest: &mut Rest, arrived: &mut BytesMut) -> Result<Piece, BoxError> {
    Ok(match rest {
        Rest::Length(0) | Rest::Switched => Piece::End,
        Rest::Length(_) | Rest::UntilClose if arrived.is_empty() => Piece::None,
        Rest::Length(left) => {
            let many = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len());
            *left -= many as u64;
            Piece::Frame(Frame::data(arrived.split_to(many).freeze()))
        }
        Rest::UntilClose => Piece::Frame(Frame::data(arrived.split().freeze())),
        Rest::Chunked(chunks) => match chunks.read(arrived)? {
            Some(Chunk::Data(data)) => Piece::Frame(Frame::data(data)),
            Some(Chunk::Trailers(trailers)) => Piece::Frame(Frame::trailers(trailers)),
            Some(Chunk::End) => Piece::End,
            None => Piece::None,
        },
    })
}

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.broken.is_none() {
            let polled = self.poll(cx);
            let Poll::Ready(Some(Err(error))) = polled else {
                self.unsent = polled.is_ready();
                return polled;
            };
            self.connection = None;
            self.broken = Some(error);
            // An error ends the browser's connection, with what was not sent to it: that goes
            // first.
            if std::mem::take(&mut self.unsent) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(self.broken.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none() && self.broken.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            Rest::Length(left) => SizeHint::with_exact(left),
            Rest::Chunked(_) | Rest::UntilClose | Rest::Switched => SizeHint::default(),
        }
    }
}
