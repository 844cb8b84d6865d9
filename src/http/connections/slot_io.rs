//! A byte stream that holds its connection's slot: also after an upgrade, when the HTTP server has
//! given the stream away.

use super::pool::{ConnectionHandle, ConnectionSlot};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(in crate::http) struct SlotIo<S> {
    stream: S,
    slot: ConnectionSlot,
    /// Requests that had started when something was last written.
    answered: u64,
    /// The client has closed its side, or the connection has failed.
    has_ended: bool,
}

impl<S> SlotIo<S> {
    pub(in crate::http) fn new(stream: S, slot: ConnectionSlot) -> Self {
        Self { stream, slot, answered: 0, has_ended: false }
    }

    pub(in crate::http) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Whether a request has started after the last write, and its client is still there.
    pub(in crate::http) fn is_unanswered(&self) -> bool {
        !self.has_ended && self.slot.requests_started() > self.answered
    }

    fn record_write<T>(&mut self, outcome: &Poll<io::Result<T>>) {
        match outcome {
            Poll::Ready(Ok(_)) => self.answered = self.slot.requests_started(),
            Poll::Ready(Err(_)) => self.has_ended = true,
            Poll::Pending => {}
        }
    }

    pub(in crate::http) fn handle(&self) -> ConnectionHandle {
        self.slot.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SlotIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(read) = &outcome {
            self.has_ended |= read.is_err() || buf.filled().len() == before;
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SlotIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.record_write(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.record_write(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
