//! The byte stream of an HTTP/2 connection, on which header blocks must be complete in time, and of
//! which a client may have few incomplete ones in several frames: the HTTP/2 library keeps what it
//! has decoded of them, and has no timeout for it.

use super::frame_scanner::{FrameScanner, HeaderBlock};
use super::pool::{ConnectionHandle, HeaderBlockGuard};
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

pub(in crate::http) struct HeaderBlockIo<S> {
    stream: S,
    scanner: FrameScanner,
    block: HeaderBlock,
    handle: ConnectionHandle,
    limit: Duration,
    /// Created for the first incomplete block, and kept.
    timer: Option<Pin<Box<Sleep>>>,
    guard: Option<HeaderBlockGuard>,
}

impl<S> HeaderBlockIo<S> {
    /// A header block that is incomplete for `limit` ends the connection.
    pub(in crate::http) fn new(stream: S, handle: ConnectionHandle, limit: Duration) -> Self {
        Self {
            stream,
            scanner: FrameScanner::new(),
            block: HeaderBlock::Complete,
            handle,
            limit,
            timer: None,
            guard: None,
        }
    }

    /// Follows what has arrived.
    fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (before, completed) = (self.block, self.scanner.completed());
        self.block = self.scanner.feed(bytes);
        let is_new = before == HeaderBlock::Complete || self.scanner.completed() != completed;
        if is_new {
            self.guard = None;
        }
        match self.block {
            HeaderBlock::Complete => {}
            HeaderBlock::Incomplete | HeaderBlock::Fragmented => {
                if is_new {
                    let limit = self.limit;
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
                    timer.as_mut().reset(Instant::now() + limit);
                }
            }
        }
        if self.block == HeaderBlock::Fragmented && self.guard.is_none() {
            let guard = self.handle.begin_header_block();
            self.guard = Some(guard.ok_or_else(|| {
                io::Error::other("the client has too many incomplete header blocks")
            })?);
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeaderBlockIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            read?;
            this.feed(buf.filled().get(before..).unwrap_or_default())?;
            return Poll::Ready(Ok(()));
        }
        if let (true, Some(timer)) = (this.block != HeaderBlock::Complete, &mut this.timer) {
            ready!(timer.as_mut().poll(cx));
            let error = io::Error::new(io::ErrorKind::TimedOut, "a header block stays incomplete");
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeaderBlockIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
