//! The byte stream of a browser's connection. Writes that the browser does not accept time out, and a
//! connection that ends with a blocked write is reset: closing it would leave the data in the
//! kernel's buffers to a browser that reads on minutes after the end of its session.

use crate::http::head_refusal_io::HeadRefusalIo;
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

/// Write progress and reset flag, shared with the task that drives the connection, which does not
/// own its stream.
#[derive(Debug, Default)]
pub(in crate::http) struct WriteProgress {
    /// The last write waits for the browser.
    blocked: AtomicBool,
    /// Number of completed writes.
    completed: AtomicU64,
    /// The connection is reset instead of closed.
    reset_on_close: AtomicBool,
}

impl WriteProgress {
    /// Number of completed writes.
    pub(in crate::http) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// Whether a write is blocked and none has completed since [`Self::completed`] was `completed`.
    pub(in crate::http) fn is_stalled_since(&self, completed: u64) -> bool {
        self.blocked.load(Ordering::Relaxed) && self.completed() == completed
    }

    /// Resets the connection when it is dropped: the kernel discards unsent data.
    pub(in crate::http) fn reset_on_close(&self) {
        self.reset_on_close.store(true, Ordering::Relaxed);
    }
}

/// The byte stream of a browser's connection.
pub(in crate::http) struct BrowserIo {
    stream: WriteTimeout<HeadRefusalIo<TlsStream<TcpStream>>>,
    progress: Arc<WriteProgress>,
}

impl BrowserIo {
    /// A blocked write fails after `stall`.
    pub(in crate::http) fn new(
        stream: TlsStream<TcpStream>,
        is_http2: bool,
        stall: Duration,
    ) -> Self {
        let stream = HeadRefusalIo::new(stream, is_http2);
        Self { stream: WriteTimeout::new(stream, stall), progress: Arc::default() }
    }

    pub(in crate::http) fn progress(&self) -> Arc<WriteProgress> {
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
            // SO_LINGER with a timeout of zero: the kernel discards unsent data and sends RST. It
            // fails where the connection is gone already.
            let _ = self.stream.get_ref().get_ref().get_ref().0.set_zero_linger();
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
