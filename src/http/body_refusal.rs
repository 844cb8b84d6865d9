//! The refusal of an HTTP/1.1 request whose body is not valid: actix treats a chunk with a bad size
//! as a connection that is gone, and closes it without a response. The byte stream is therefore
//! shared with its acceptor, which responds when the server has given up.

use super::connections::slot_io::SlotIo;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

const REFUSAL: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 51\r\n\
    cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n\
    {\"detail\":\"The body of the request is not valid.\"}\n";

/// A byte stream with several owners on one thread, which use it one after another.
pub(super) struct SharedIo<S>(Rc<RefCell<S>>);

impl<S> Clone for SharedIo<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S> SharedIo<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Rc::new(RefCell::new(stream)))
    }

    pub(super) fn with<T>(&self, read: impl FnOnce(&S) -> T) -> T {
        read(&self.0.borrow())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SharedIo<SlotIo<S>> {
    /// Responds to a request that its server gave up, unless the client did. The server is gone.
    pub(super) async fn refuse_body(mut self, timeout: Duration) {
        if !self.with(SlotIo::is_unanswered) {
            return;
        }
        let respond = async {
            self.write_all(REFUSAL.as_bytes()).await?;
            self.shutdown().await
        };
        // A client that does not read it is disconnected as well.
        let _: Result<io::Result<()>, _> = tokio::time::timeout(timeout, respond).await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SharedIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SharedIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_its_length() {
        let (head, body) = REFUSAL.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
            "{}",
            body.len()
        );
        assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["detail"].is_string());
    }
}
