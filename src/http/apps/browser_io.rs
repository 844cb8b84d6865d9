//! The bytes of a browser's connection: one that takes nothing for too long is broken, and one that
//! ends while it takes nothing ends for good. Closing alone would leave what is in the kernel's
//! buffers to a browser that reads on later, minutes after the end of its session.

use crate::viewer::html5::write_timeout::WriteTimeout;
use actix_web::rt::net::TcpStream;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// What those see and say who do not hold the connection itself.
#[derive(Debug, Default)]
pub(super) struct WriteProgress {
    /// A write waits for the browser.
    blocked: AtomicBool,
    /// Writes that the browser's side took.
    completed: AtomicU64,
    /// It is to be reset, not closed.
    reset_on_close: AtomicBool,
}

impl WriteProgress {
    /// How far its writes got.
    pub(super) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// Whether a write waits, and none was taken since `taken`.
    pub(super) fn is_stalled_since(&self, taken: u64) -> bool {
        self.blocked.load(Ordering::Relaxed) && self.completed() == taken
    }

    /// When the connection is dropped, nothing more of it is sent.
    pub(super) fn reset_on_close(&self) {
        self.reset_on_close.store(true, Ordering::Relaxed);
    }
}

/// A browser's connection.
pub(super) struct BrowserIo {
    stream: WriteTimeout<TlsStream<TcpStream>>,
    progress: Arc<WriteProgress>,
}

impl BrowserIo {
    /// One that must take something every `stall` when there is something to take.
    pub(super) fn new(stream: TlsStream<TcpStream>, stall: Duration) -> Self {
        Self { stream: WriteTimeout::new(stream, stall), progress: Arc::default() }
    }

    pub(super) fn progress(&self) -> Arc<WriteProgress> {
        Arc::clone(&self.progress)
    }

    fn record<T>(&self, outcome: &Poll<io::Result<T>>) {
        self.progress.blocked.store(outcome.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(_)) = outcome {
            self.progress.completed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for BrowserIo {
    fn drop(&mut self) {
        if self.stream.is_waiting() || self.progress.reset_on_close.load(Ordering::Relaxed) {
            // SO_LINGER of nothing: the kernel forgets what it has, and the browser is told by a
            // reset. It may have gone before; that is as good.
            let _ = self.stream.get_ref().get_ref().0.set_zero_linger();
        }
    }
}

impl AsyncRead for BrowserIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BrowserIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.record(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.record(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.record(&outcome);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
