//! A session's line to its desktop: what went over it, what its legs took, and the cut that ends
//! its streams at once.
//!
//! What a leg took is measured where it costs nothing: opening a connection to the desktop takes
//! one way there and back, and a server of desktops speaks first (RFC 6143 section 7.1.1), so what
//! passes from the open connection to its greeting, less another way there and back, is the
//! desktop's own. Where the client speaks first (RDP), it is what passes from its first words to
//! the answer. Between two openings the way to the host is measured anew by knocking at a port
//! where nobody listens: a refusal takes one way there and back, too.

use crate::tunnel::{Tunnel, TunnelError};
use crate::viewer::revocation::{RevocationSource, RevocationToken};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Where nobody listens: the discard port (RFC 863).
const KNOCK_PORT: u16 = 9;
/// Longest wait for an answer to a knock. Whoever drops instead of refusing gives none.
const KNOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// A measure older than this is taken again when somebody looks.
const FRESH: Duration = Duration::from_secs(5);

/// See the module. Shared by the fleet and the session's streams.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) cuts: RevocationSource,
    up: AtomicU64,
    down: AtomicU64,
    host_us: AtomicU64,
    desktop_us: AtomicU64,
    /// When the way to the host was last measured, or is being; milliseconds since [`BrowserIo::born`],
    /// plus one.
    measured: AtomicU64,
    born: Option<Instant>,
}

impl Line {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { born: Some(Instant::now()), ..Self::default() })
    }

    /// Payload bytes to the desktop and from it.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    pub(super) fn host(&self) -> Option<Duration> {
        known(&self.host_us)
    }

    pub(super) fn desktop(&self) -> Option<Duration> {
        known(&self.desktop_us)
    }

    pub(super) fn note_host(&self, took: Duration) {
        self.host_us.store(micros(took), Ordering::Relaxed);
        self.measured.store(self.clock(), Ordering::Relaxed);
    }

    pub(super) fn note_desktop(&self, took: Duration) {
        self.desktop_us.store(micros(took), Ordering::Relaxed);
    }

    fn clock(&self) -> u64 {
        self.born.map_or(1, |born| {
            u64::try_from(born.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
        })
    }

    /// Whether the caller is to measure the way to the host now; says so to one caller only.
    pub(super) fn due(&self) -> bool {
        let (now, last) = (self.clock(), self.measured.load(Ordering::Relaxed));
        let fresh = u64::try_from(FRESH.as_millis()).unwrap_or(u64::MAX);
        (last == 0 || now.saturating_sub(last) >= fresh)
            && self
                .measured
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1)
}

fn known(cell: &AtomicU64) -> Option<Duration> {
    Some(cell.load(Ordering::Relaxed)).filter(|us| *us > 0).map(Duration::from_micros)
}

/// One way to the other end of a tunnel and back; `Incomplete` when it gives no answer.
pub(super) async fn knock(tunnel: &Tunnel) -> Option<Duration> {
    let began = Instant::now();
    match tokio::time::timeout(KNOCK_TIMEOUT, tunnel.connect(KNOCK_PORT)).await {
        Ok(Ok(_) | Err(TunnelError::Refused)) => Some(began.elapsed()),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// A stream to a desktop, watched over: it counts, measures the greeting, and ends when its line is
/// cut.
pub(super) struct Watched<S> {
    stream: S,
    line: Arc<Line>,
    cut: RevocationToken,
    /// Until the greeting: when the connection was open, and what the way there and back took.
    greeting: Option<(Instant, Duration)>,
}

impl<S> Watched<S> {
    /// Watches a stream that was just opened, which took `opening`.
    pub(super) fn new(stream: S, line: Arc<Line>, opening: Duration) -> Self {
        line.note_host(opening);
        let cut = line.cuts.token();
        Self { stream, line, cut, greeting: Some((Instant::now(), opening)) }
    }

    /// What the stream says, unless the line is cut.
    fn uncut<T>(
        &mut self,
        cx: &mut Context<'_>,
        ask: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        S: Unpin,
    {
        let aborted = || Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        if self.cut.is_revoked() {
            return aborted();
        }
        match ask(Pin::new(&mut self.stream), cx) {
            Poll::Pending if self.cut.is_revoked_or_register(cx) => aborted(),
            outcome => outcome,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.uncut(cx, |stream, cx| stream.poll_read(cx, buf)))?;
        let read = buf.filled().len() - before;
        self.line.down.fetch_add(read as u64, Ordering::Relaxed);
        if read > 0
            && let Some((open, opening)) = self.greeting.take()
        {
            self.line.note_desktop(open.elapsed().saturating_sub(opening));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.uncut(cx, |stream, cx| stream.poll_write(cx, bytes)))?;
        if let Some((asked, _)) = &mut self.greeting {
            // A server of RDP waits for its client: its time runs from here.
            *asked = Instant::now();
        }
        self.line.up.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.uncut(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_line_counts_and_is_cut_at_once() {
        let line = Line::new();
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Watched::new(near, line.clone(), Duration::from_micros(7));
        assert_eq!((line.host(), line.desktop()), (Some(Duration::from_micros(7)), None));
        far.write_all(b"RFB 003.008\n").await.unwrap();
        let mut greeting = [0; 12];
        near.read_exact(&mut greeting).await.unwrap();
        near.write_all(b"abc").await.unwrap();
        assert!(line.desktop().is_some());
        assert_eq!(line.bytes(), (3, 12));
        // A reader that waits is woken by the cut, and nothing passes any more.
        let reader = tokio::spawn(async move {
            let read = near.read(&mut [0; 1]).await.map_err(|e| e.kind());
            (read, near.write(b"x").await.map_err(|e| e.kind()))
        });
        tokio::task::yield_now().await;
        line.cuts.revoke();
        let aborted = Err(io::ErrorKind::ConnectionAborted);
        assert_eq!(reader.await.unwrap(), (aborted, aborted));
    }

    #[test]
    fn one_caller_measures() {
        let line = Line::new();
        assert!(line.due());
        assert!(!line.due());
        line.note_host(Duration::from_millis(1));
        assert!(!line.due());
    }
}
