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
const PROBE_PORT: u16 = 9;
/// Longest wait for an answer to a knock. Whoever drops instead of refusing gives none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A measure older than this is taken again when somebody looks.
const RTT_MAX_AGE: Duration = Duration::from_secs(5);

/// See the module. Shared by the fleet and the session's streams.
#[derive(Debug, Default)]
pub(super) struct SessionPath {
    pub(super) cuts: RevocationSource,
    tx_bytes: AtomicU64,
    rx_bytes: AtomicU64,
    host_rtt_us: AtomicU64,
    desktop_rtt_us: AtomicU64,
    /// When the way to the host was last measured, or is being; milliseconds since [`Line::born`],
    /// plus one.
    measured_at_ms: AtomicU64,
    created: Option<Instant>,
}

impl SessionPath {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { created: Some(Instant::now()), ..Self::default() })
    }

    /// Payload bytes to the desktop and from it.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.tx_bytes.load(Ordering::Relaxed), self.rx_bytes.load(Ordering::Relaxed))
    }

    pub(super) fn host_rtt(&self) -> Option<Duration> {
        load_rtt(&self.host_rtt_us)
    }

    pub(super) fn desktop_rtt(&self) -> Option<Duration> {
        load_rtt(&self.desktop_rtt_us)
    }

    pub(super) fn set_host_rtt(&self, took: Duration) {
        self.host_rtt_us.store(to_micros(took), Ordering::Relaxed);
        self.measured_at_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    pub(super) fn set_desktop_rtt(&self, took: Duration) {
        self.desktop_rtt_us.store(to_micros(took), Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        self.created.map_or(1, |born| {
            u64::try_from(born.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
        })
    }

    /// Whether the caller is to measure the way to the host now; says so to one caller only.
    pub(super) fn claim_measurement(&self) -> bool {
        let (now, last) = (self.elapsed_ms(), self.measured_at_ms.load(Ordering::Relaxed));
        let fresh = u64::try_from(RTT_MAX_AGE.as_millis()).unwrap_or(u64::MAX);
        (last == 0 || now.saturating_sub(last) >= fresh)
            && self
                .measured_at_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

fn to_micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1)
}

fn load_rtt(cell: &AtomicU64) -> Option<Duration> {
    Some(cell.load(Ordering::Relaxed)).filter(|us| *us > 0).map(Duration::from_micros)
}

/// One way to the other end of a tunnel and back; `None` when it gives no answer.
pub(super) async fn probe_rtt(tunnel: &Tunnel) -> Option<Duration> {
    let began = Instant::now();
    match tokio::time::timeout(PROBE_TIMEOUT, tunnel.connect(PROBE_PORT)).await {
        Ok(Ok(_) | Err(TunnelError::Refused)) => Some(began.elapsed()),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// A stream to a desktop, watched over: it counts, measures the greeting, and ends when its line is
/// cut.
pub(super) struct MeteredStream<S> {
    stream: S,
    path: Arc<SessionPath>,
    cut: RevocationToken,
    /// Until the greeting: when the connection was open, and what the way there and back took.
    greeting: Option<(Instant, Duration)>,
}

impl<S> MeteredStream<S> {
    /// Watches a stream that was just opened, which took `opening`.
    pub(super) fn new(stream: S, path: Arc<SessionPath>, opening: Duration) -> Self {
        path.set_host_rtt(opening);
        let cut = path.cuts.token();
        Self { stream, path, cut, greeting: Some((Instant::now(), opening)) }
    }

    /// What the stream says, unless the line is cut.
    fn poll_unless_closed<T>(
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

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.poll_unless_closed(cx, |stream, cx| stream.poll_read(cx, buf)))?;
        let read = buf.filled().len() - before;
        self.path.rx_bytes.fetch_add(read as u64, Ordering::Relaxed);
        if read > 0
            && let Some((open, opening)) = self.greeting.take()
        {
            self.path.set_desktop_rtt(open.elapsed().saturating_sub(opening));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written =
            ready!(self.poll_unless_closed(cx, |stream, cx| stream.poll_write(cx, bytes)))?;
        if let Some((asked, _)) = &mut self.greeting {
            // A server of RDP waits for its client: its time runs from here.
            *asked = Instant::now();
        }
        self.path.tx_bytes.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_unless_closed(cx, |stream, cx| stream.poll_flush(cx))
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
        let line = SessionPath::new();
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = MeteredStream::new(near, line.clone(), Duration::from_micros(7));
        assert_eq!((line.host_rtt(), line.desktop_rtt()), (Some(Duration::from_micros(7)), None));
        far.write_all(b"RFB 003.008\n").await.unwrap();
        let mut greeting = [0; 12];
        near.read_exact(&mut greeting).await.unwrap();
        near.write_all(b"abc").await.unwrap();
        assert!(line.desktop_rtt().is_some());
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
        let line = SessionPath::new();
        assert!(line.claim_measurement());
        assert!(!line.claim_measurement());
        line.set_host_rtt(Duration::from_millis(1));
        assert!(!line.claim_measurement());
    }
}
