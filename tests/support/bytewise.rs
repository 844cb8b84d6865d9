//! A stream that transfers one byte at a time, with a pause after each: code that depends on whole
//! messages fails.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads and writes at most one byte per call, and is not ready every other time.
pub struct Bytewise<S> {
    inner: S,
    read_rests: bool,
    write_rests: bool,
}

impl<S> Bytewise<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, read_rests: false, write_rests: false }
    }
}

/// True at every second call; then the caller must return `Pending`, and is woken at once.
fn rest(flag: &mut bool, cx: &Context<'_>) -> bool {
    *flag = !*flag;
    if *flag {
        cx.waker().wake_by_ref();
    }
    *flag
}

impl<S: AsyncRead + Unpin> AsyncRead for Bytewise<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if rest(&mut self.read_rests, cx) {
            return Poll::Pending;
        }
        let mut byte = [0; 1];
        let mut one = ReadBuf::new(&mut byte);
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bytewise<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if rest(&mut self.write_rests, cx) {
            return Poll::Pending;
        }
        let end = bytes.len().min(1);
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..end])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
