//! Metrics of a session's path to its desktop, and the stream that measures them.
//!
//! Measuring adds no traffic where possible. Opening a connection to the desktop takes one round
//! trip to the host, and a desktop's server sends first (RFC 6143 section 7.1.1), so the time from
//! the open connection to its greeting, less one round trip, is the desktop's own. Where the client
//! sends first (RDP), it is the time from its first bytes to the response. Between two connections
//! the round trip to the host is measured by [`probe_rtt`].
//!
//! A [`MeteredStream`] only counts. What ends it is its owner: the holder of the stream's
//! authorization drops it, or the tunnel below it is closed.

use crate::tunnel::handle::{Tunnel, TunnelError};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A port without a listener: the discard port (RFC 863).
const PROBE_PORT: u16 = 9;
/// Longest wait for a refusal. A peer that drops instead of refusing sends none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A round-trip time older than this is measured again when it is read.
const RTT_MAX_AGE: Duration = Duration::from_secs(5);

/// Payload bytes and latencies of one session's path. Shared by the fleet and the session's
/// streams.
#[derive(Debug)]
pub struct SessionPath {
    tx_bytes: AtomicU64,
    rx_bytes: AtomicU64,
    /// 0: not measured.
    host_rtt_us: AtomicU64,
    /// 0: not measured.
    desktop_rtt_us: AtomicU64,
    /// Start of the last measurement of the host's round-trip time: milliseconds since `created`,
    /// plus one; 0: none.
    measured_at_ms: AtomicU64,
    created: Instant,
}

impl SessionPath {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            tx_bytes: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
            host_rtt_us: AtomicU64::new(0),
            desktop_rtt_us: AtomicU64::new(0),
            measured_at_ms: AtomicU64::new(0),
            created: Instant::now(),
        })
    }

    /// Payload bytes to the desktop and from it.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.tx_bytes.load(Ordering::Relaxed), self.rx_bytes.load(Ordering::Relaxed))
    }

    /// Last round-trip time to the host.
    #[must_use]
    pub fn host_rtt(&self) -> Option<Duration> {
        load_rtt(&self.host_rtt_us)
    }

    /// Last response time of the desktop itself, without the way to its host.
    #[must_use]
    pub fn desktop_rtt(&self) -> Option<Duration> {
        load_rtt(&self.desktop_rtt_us)
    }

    pub fn set_host_rtt(&self, rtt: Duration) {
        self.host_rtt_us.store(to_micros(rtt), Ordering::Relaxed);
        self.measured_at_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    fn set_desktop_rtt(&self, rtt: Duration) {
        self.desktop_rtt_us.store(to_micros(rtt), Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Whether the caller should measure the round-trip time to the host now. True for one caller
    /// only.
    #[must_use]
    pub fn claim_measurement(&self) -> bool {
        let (now, last) = (self.elapsed_ms(), self.measured_at_ms.load(Ordering::Relaxed));
        let max_age = u64::try_from(RTT_MAX_AGE.as_millis()).unwrap_or(u64::MAX);
        (last == 0 || now.saturating_sub(last) >= max_age)
            && self
                .measured_at_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

fn to_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

fn load_rtt(cell: &AtomicU64) -> Option<Duration> {
    Some(cell.load(Ordering::Relaxed)).filter(|us| *us > 0).map(Duration::from_micros)
}

/// Round-trip time to the other end of a tunnel, by a connection to a closed port; `None` when
/// there is no answer.
pub async fn probe_rtt(tunnel: &Tunnel) -> Option<Duration> {
    let started = Instant::now();
    match tokio::time::timeout(PROBE_TIMEOUT, tunnel.connect(PROBE_PORT)).await {
        Ok(Ok(_) | Err(TunnelError::Refused)) => Some(started.elapsed()),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// A stream to a desktop that counts its bytes and measures the desktop's greeting.
#[derive(Debug)]
pub struct MeteredStream<S> {
    stream: S,
    path: Arc<SessionPath>,
    /// Until the greeting: when the connection was open, and how long opening it took.
    greeting: Option<(Instant, Duration)>,
}

impl<S> MeteredStream<S> {
    /// Meters a stream that was just opened, which took `opening`: one round trip to the host.
    #[must_use]
    pub fn new(stream: S, path: Arc<SessionPath>, opening: Duration) -> Self {
        path.set_host_rtt(opening);
        Self { stream, path, greeting: Some((Instant::now(), opening)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        self.path.rx_bytes.fetch_add(read as u64, Ordering::Relaxed);
        if read > 0
            && let Some((since, opening)) = self.greeting.take()
        {
            self.path.set_desktop_rtt(since.elapsed().saturating_sub(opening));
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
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        if let Some((since, _)) = &mut self.greeting {
            // An RDP server waits for its client: its response time begins here.
            *since = Instant::now();
        }
        self.path.tx_bytes.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
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
    async fn bytes_and_the_greeting_are_measured() {
        let path = SessionPath::new();
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = MeteredStream::new(near, path.clone(), Duration::from_micros(7));
        assert_eq!((path.host_rtt(), path.desktop_rtt()), (Some(Duration::from_micros(7)), None));
        far.write_all(b"RFB 003.008\n").await.unwrap();
        let mut greeting = [0; 12];
        near.read_exact(&mut greeting).await.unwrap();
        near.write_all(b"abc").await.unwrap();
        assert!(path.desktop_rtt().is_some());
        assert_eq!(path.bytes(), (3, 12));
        // Dropping the stream closes the connection below it.
        drop(near);
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"abc");
    }

    #[test]
    fn one_caller_measures() {
        let path = SessionPath::new();
        assert!(path.claim_measurement());
        assert!(!path.claim_measurement());
        path.set_host_rtt(Duration::from_millis(1));
        assert!(!path.claim_measurement());
    }
}
