//! A response body as it arrives from the application: read when the browser's side polls it, and
//! no further. Its connection returns to the pool when the body was read completely, and is closed
//! otherwise.

use super::body::BoxError;
use super::connection::{Connection, Exchanged};
use super::pool::Pool;
use crate::protocol::http1::{Chunk, ChunkedDecoder, Framing, Head, is_persistent};
use crate::viewer::Duplex;
use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use hyper::{Response, StatusCode};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::OwnedSemaphorePermit;

/// What is left of a body.
enum Remaining {
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
    /// Not a body but another protocol, after 101.
    Upgraded,
}

/// A response body as it arrives from the application.
pub(super) struct ResponseBody {
    /// Until the body is complete or fails.
    connection: Option<Connection>,
    remaining: Remaining,
    /// The connection may carry another response.
    is_persistent: bool,
    /// Returned by the next poll.
    pending_error: Option<BoxError>,
    /// hyper's server may hold output that it had no chance to flush: the head, or the last frame.
    has_unflushed_output: bool,
    pool: Arc<Pool>,
}

enum BodyPart {
    Frame(Frame<Bytes>),
    End,
    /// More has to arrive first.
    Incomplete,
}

/// The response to an exchange, its body still on the connection.
pub(super) fn into_response(exchanged: Exchanged, pool: Arc<Pool>) -> Response<ResponseBody> {
    let Exchanged { head, framing, connection } = exchanged;
    let is_persistent = is_persistent(&head, framing);
    let Head { status, fields, .. } = head;
    let remaining = match framing {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => Remaining::Upgraded,
        Framing::Length(length) => Remaining::Length(length),
        Framing::Chunked => Remaining::Chunked(ChunkedDecoder::default()),
        Framing::UntilClose => Remaining::UntilClose,
    };
    let mut body = ResponseBody {
        connection: Some(connection),
        remaining,
        is_persistent,
        pending_error: None,
        has_unflushed_output: true,
        pool,
    };
    if matches!(body.remaining, Remaining::Length(0)) {
        body.release_connection();
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

impl ResponseBody {
    /// The stream after 101, the bytes read from it, and the permit that counts it.
    pub(super) fn into_stream(self) -> Option<(Box<dyn Duplex>, Bytes, Arc<OwnedSemaphorePermit>)> {
        self.connection.filter(|_| matches!(self.remaining, Remaining::Upgraded))?.into_stream()
    }

    /// The body is complete: the connection returns to the pool, if it is persistent and the request
    /// was sent completely.
    fn release_connection(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.is_persistent {
            // Takes the writer back if the upload has finished; otherwise the connection is in the
            // middle of a request and is closed.
            let _ = connection.poll_upload(&mut Context::from_waker(Waker::noop()));
            self.pool.checkin(connection);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            match next_part(&mut self.remaining, &mut connection.read_buf)? {
                BodyPart::Frame(frame) => {
                    if matches!(&self.remaining, Remaining::Length(0))
                        || matches!(&self.remaining, Remaining::Chunked(decoder) if decoder.is_done())
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
                    return connection.poll_upload(cx).map(|error| Some(Err(error.into())));
                }
            }
        }
    }
}

/// The next part of a body in the bytes that have arrived.
fn next_part(remaining: &mut Remaining, read_buf: &mut BytesMut) -> Result<BodyPart, BoxError> {
    Ok(match remaining {
        Remaining::Length(0) | Remaining::Upgraded => BodyPart::End,
        Remaining::Length(_) | Remaining::UntilClose if read_buf.is_empty() => BodyPart::Incomplete,
        Remaining::Length(left) => {
            let length = usize::try_from(*left).unwrap_or(usize::MAX).min(read_buf.len());
            *left -= length as u64;
            BodyPart::Frame(Frame::data(read_buf.split_to(length).freeze()))
        }
        Remaining::UntilClose => BodyPart::Frame(Frame::data(read_buf.split().freeze())),
        Remaining::Chunked(decoder) => match decoder.decode(read_buf)? {
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
            // hyper closes the browser's connection at an error, without the output that it has not
            // flushed: let it flush first.
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
