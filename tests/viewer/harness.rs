//! A browser and a desktop made of pipes, with the viewer between them.

pub use super::leases::{PASSWORD, lease, lease_by, lease_to, server};
use super::recording_audit::RecordingAudit;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use portcullis::broker::core::stream_registry::{StreamAuthorization, StreamMeters};
use portcullis::domain::lease::Lease;
use portcullis::viewer::attach::{Attachment, attach};
use portcullis::viewer::browser::{BrowserEvent, BrowserSink, BrowserSource, Disconnected};
use portcullis::viewer::stream_audit::RefusalCounter;
use portcullis::viewer::stream_end::StreamEnd;
use portcullis::viewer::{Dial, Duplex, Timeouts};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A challenge, and its response under [`PASSWORD`].
pub const CHALLENGE: [u8; 16] = *b"0123456789abcdef";
pub const ANSWER: [u8; 16] = [
    0x56, 0x25, 0x32, 0x4f, 0x9f, 0xeb, 0x0e, 0x61, 0xe5, 0x29, 0xa1, 0x7e, 0xdd, 0x40, 0x79, 0x46,
];

/// `ServerInit` of every desktop here: 2 by 1 pixels of 32 bits, its name "desk".
pub const INIT: [u8; 28] =
    *b"\0\x02\0\x01\x20\x18\0\x01\0\xff\0\xff\0\xff\x10\x08\0\0\0\0\0\0\0\x04desk";

pub const PIPE_CAPACITY: usize = 64 * 1024;

/// Dials into the test: each call passes the far end of a pipe to it.
pub struct PipeDial {
    connections: mpsc::UnboundedSender<DuplexStream>,
}

pub type PipeConnections = mpsc::UnboundedReceiver<DuplexStream>;

pub fn pipe_dial() -> (PipeDial, PipeConnections) {
    let (connections, taken) = mpsc::unbounded_channel();
    (PipeDial { connections }, taken)
}

impl Dial for PipeDial {
    fn dial<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        let (near, far) = tokio::io::duplex(PIPE_CAPACITY);
        let taken = self
            .connections
            .send(far)
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused));
        std::future::ready(taken.map(|()| Box::new(near) as Box<dyn Duplex>)).boxed()
    }
}

/// Dials with the given function.
pub struct FnDialer<F>(pub F);

impl<F> Dial for FnDialer<F>
where
    F: Fn() -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> + Send + Sync + 'static,
{
    fn dial<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        (self.0)()
    }
}

/// A message to the browser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrowserMessage {
    Bytes(Bytes),
    Ping(Bytes),
    Pong(Bytes),
}

/// The viewer's sink to the browser: holds two messages.
#[derive(Clone)]
pub struct PipeSink(mpsc::Sender<BrowserMessage>);

impl BrowserSink for PipeSink {
    async fn send(&mut self, chunk: Bytes) -> Result<(), Disconnected> {
        self.0.send(BrowserMessage::Bytes(chunk)).await.map_err(|_| Disconnected)
    }
    async fn ping(&mut self, payload: &[u8]) -> Result<(), Disconnected> {
        self.0
            .send(BrowserMessage::Ping(Bytes::copy_from_slice(payload)))
            .await
            .map_err(|_| Disconnected)
    }
    async fn pong(&mut self, payload: &[u8]) -> Result<(), Disconnected> {
        self.0
            .send(BrowserMessage::Pong(Bytes::copy_from_slice(payload)))
            .await
            .map_err(|_| Disconnected)
    }
}

/// The viewer's source from the browser.
pub struct PipeSource(mpsc::Receiver<Result<BrowserEvent, StreamEnd>>);

impl BrowserSource for PipeSource {
    async fn next(&mut self) -> Result<BrowserEvent, StreamEnd> {
        self.0.recv().await.unwrap_or(Err(StreamEnd::BrowserDisconnected))
    }
}

/// A browser that the test controls.
pub struct Browser {
    pub sent: mpsc::Receiver<BrowserMessage>,
    pub input: mpsc::Sender<Result<BrowserEvent, StreamEnd>>,
    unread: Vec<u8>,
}

impl Browser {
    pub async fn send(&self, bytes: &[u8]) {
        self.input
            .send(Ok(BrowserEvent::Bytes(Bytes::copy_from_slice(bytes))))
            .await
            .expect("the viewer listens");
    }

    /// The next message; pings are answered and not returned.
    pub async fn receive(&mut self) -> Option<BrowserMessage> {
        loop {
            match self.sent.recv().await? {
                BrowserMessage::Ping(payload) => {
                    // A browser continues to read when it cannot write.
                    let _ = self.input.try_send(Ok(BrowserEvent::Pong(payload)));
                }
                other => return Some(other),
            }
        }
    }

    pub async fn read(&mut self, n: usize) -> Vec<u8> {
        while self.unread.len() < n {
            match self.receive().await.expect("the viewer still talks") {
                BrowserMessage::Bytes(bytes) => self.unread.extend_from_slice(&bytes),
                other => panic!("expected bytes, heard {other:?}"),
            }
        }
        self.unread.drain(..n).collect()
    }

    /// The browser's part of the handshake.
    pub async fn negotiate(&mut self) {
        assert_eq!(self.read(12).await, b"RFB 003.008\n");
        self.send(b"RFB 003.008\n").await;
        assert_eq!(self.read(2).await, [1, 1]);
        self.send(&[1]).await;
        assert_eq!(self.read(4).await, [0; 4]);
    }

    /// Sends `ClientInit`. The desktop must answer with [`INIT`].
    pub async fn client_init(&mut self) {
        self.send(&[1]).await;
        assert_eq!(self.read(INIT.len()).await, INIT);
    }
}

/// One stream with both its ends.
pub struct Harness {
    pub browser: Browser,
    pub connections: PipeConnections,
    pub authorization: watch::Sender<StreamAuthorization>,
    pub draining: watch::Sender<bool>,
    pub meters: Arc<StreamMeters>,
    pub audit: RecordingAudit,
    pub end: JoinHandle<StreamEnd>,
}

impl Harness {
    pub fn new() -> Self {
        let (dial, connections) = pipe_dial();
        Self::with(dial, connections, Timeouts::default())
    }

    /// With other time limits than in production.
    pub fn with_limits(timeouts: Timeouts) -> Self {
        let (dial, connections) = pipe_dial();
        Self::with(dial, connections, timeouts)
    }

    pub fn with_dial(dial: impl Dial) -> Self {
        Self::with(dial, mpsc::unbounded_channel().1, Timeouts::default())
    }

    pub fn with(dial: impl Dial, connections: PipeConnections, timeouts: Timeouts) -> Self {
        Self::with_lease(lease(), dial, connections, timeouts, RecordingAudit::default())
    }

    /// Any lease, and an audit recorder that may outlive the stream.
    pub fn with_lease(
        lease: Lease,
        dial: impl Dial,
        connections: PipeConnections,
        timeouts: Timeouts,
        audit: RecordingAudit,
    ) -> Self {
        let (to_browser, output) = mpsc::channel(2);
        let (browser_input, received) = mpsc::channel(16);
        let (authorization, watched) = watch::channel(StreamAuthorization::Valid);
        let (draining, drained) = watch::channel(false);
        let meters = Arc::new(StreamMeters::default());
        let (written, recorder) = (Arc::clone(&meters), audit.clone());
        let end = tokio::spawn(async move {
            let refusals = RefusalCounter::default();
            let attachment = Attachment {
                lease: &lease,
                dial: &dial,
                authorization: watched,
                draining: drained,
                meters: &written,
                refusals: &refusals,
                audit: &recorder,
                timeouts,
            };
            let end = attach(attachment, PipeSink(to_browser), &mut PipeSource(received)).await;
            refusals.flush(&recorder).await;
            end
        });
        Self {
            browser: Browser { sent: output, input: browser_input, unread: Vec::new() },
            connections,
            authorization,
            draining,
            meters,
            audit,
            end,
        }
    }

    /// The desktop's end of the connection the viewer makes.
    pub async fn desktop(&mut self) -> DuplexStream {
        self.connections.recv().await.expect("the viewer dials")
    }

    /// A stream after both handshakes.
    pub async fn established() -> (Self, DuplexStream) {
        Self::established_with(Timeouts::default()).await
    }

    pub async fn established_with(timeouts: Timeouts) -> (Self, DuplexStream) {
        let mut harness = Self::with_limits(timeouts);
        let mut desktop = harness.desktop().await;
        harness.handshake(&mut desktop).await;
        (harness, desktop)
    }

    /// The browser's end as a byte stream, pings answered; dropping it disconnects the browser.
    pub fn browser_stream(&mut self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(PIPE_CAPACITY);
        let (mut reader, mut writer) = tokio::io::split(far);
        let mut output = std::mem::replace(&mut self.browser.sent, mpsc::channel(1).1);
        let (browser_input, pong) = (self.browser.input.clone(), self.browser.input.clone());
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(n @ 1..) = reader.read(&mut buffer).await {
                let _ = browser_input
                    .send(Ok(BrowserEvent::Bytes(Bytes::copy_from_slice(&buffer[..n]))))
                    .await;
            }
            let _ = browser_input.send(Err(StreamEnd::BrowserDisconnected)).await;
        });
        tokio::spawn(async move {
            while let Some(output) = output.recv().await {
                match output {
                    BrowserMessage::Bytes(bytes) => drop(writer.write_all(&bytes).await),
                    BrowserMessage::Ping(payload) => {
                        drop(pong.try_send(Ok(BrowserEvent::Pong(payload))))
                    }
                    BrowserMessage::Pong(_) => {}
                }
            }
            let _ = writer.shutdown().await;
        });
        near
    }

    /// Both handshakes.
    pub async fn handshake(&mut self, desktop: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
        authenticate_desktop(desktop).await;
        self.browser.negotiate().await;
        tokio::join!(server_init(desktop, 1), self.browser.client_init());
    }

    /// Waits for the end. The browser's channels are kept open, so that the viewer does not end
    /// because of them.
    pub async fn end(self) -> (StreamEnd, Browser) {
        let end = tokio::time::timeout(Duration::from_secs(30), self.end)
            .await
            .expect("it ends")
            .expect("it does not panic");
        (end, self.browser)
    }
}

/// A stream with an authorization only; dropped by its caller.
pub async fn attach_once(
    dial: &dyn Dial,
    authorization: watch::Receiver<StreamAuthorization>,
) -> StreamEnd {
    let (to_browser, _told) = mpsc::channel(2);
    let (_say, received) = mpsc::channel(2);
    let (_draining, drained) = watch::channel(false);
    let (lease, meters, refusals, audit) =
        (lease(), StreamMeters::default(), RefusalCounter::default(), RecordingAudit::default());
    let timeouts = Timeouts::default();
    let attachment = Attachment {
        lease: &lease,
        dial,
        authorization,
        draining: drained,
        meters: &meters,
        refusals: &refusals,
        audit: &audit,
        timeouts,
    };
    attach(attachment, PipeSink(to_browser), &mut PipeSource(received)).await
}

/// The desktop's part of the handshake: 3.8, VncAuth, only the correct response.
pub async fn authenticate_desktop(desktop: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    desktop.write_all(b"RFB 003.008\n").await.unwrap();
    assert_eq!(read(desktop, 12).await, b"RFB 003.008\n");
    desktop.write_all(&[1, 2]).await.unwrap();
    assert_eq!(read(desktop, 1).await, [2]);
    desktop.write_all(&CHALLENGE).await.unwrap();
    assert_eq!(read(desktop, 16).await, ANSWER);
    desktop.write_all(&[0; 4]).await.unwrap();
    desktop.flush().await.unwrap();
}

/// The desktop's `ClientInit` and `ServerInit`; `shared` is the expected flag.
pub async fn server_init(desktop: &mut (impl AsyncRead + AsyncWrite + Unpin), shared: u8) {
    assert_eq!(read(desktop, 1).await, [shared]);
    desktop.write_all(&INIT).await.unwrap();
    desktop.flush().await.unwrap();
}

pub async fn read(stream: &mut (impl AsyncRead + Unpin), n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// True when the other end of the pipe is closed.
pub async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await.is_ok()
}
