//! A session's own tunnel at the host: fresh keys, one port, and behind it one desktop's socket, or
//! one service.
//!
//! The tunnel reaches nothing else: its address has one listener, and what is accepted there is
//! joined to the server there, byte for byte. It ends when it is dropped, when the desktop ends, or
//! when the tunnel does (the gateway dropped its keys and the agent was told).

use super::desktop::DesktopConnector;
use super::services::ServiceAddress;
use crate::domain::workspace::WorkspaceKind;
use crate::tunnel::{
    Hub, PeerConfig, PresharedKey, PrivateKey, Profile, PublicKey, Tunnel, TunnelError, TunnelId,
    TunnelListener, TunnelStream,
};
use bytes::BytesMut;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// A desktop's port in its tunnel: RFB's.
pub const RFB_PORT: u16 = 5900;
/// The port of an RDP desktop in its tunnel.
pub const RDP_PORT: u16 = 3389;
/// The port of a web application in its tunnel.
pub const WEB_PORT: u16 = 80;
/// Most streams of a session at once: of a desktop, and of a web application, whose every request
/// that waits, event stream and WebSocket is one.
pub const STREAMS_MAX: usize = 8;
/// See [`STREAMS_MAX`]. A browser opens a hundred requests at once over HTTP/2 (RFC 9113 section
/// 6.5.2).
pub const WEB_STREAMS_MAX: usize = 256;
/// Streams that may wait to be accepted.
const BACKLOG: usize = 8;
const WEB_BACKLOG: usize = 64;
/// Keeps the way through NATs open.
pub const KEEPALIVE: Duration = Duration::from_secs(25);
/// Bytes of each direction's buffer in a forward: at first, and for much at once.
const BUFFER_MIN: usize = 4 * 1024;
const BUFFER_MAX: usize = 64 * 1024;

/// What the gateway decides about a session's tunnel.
#[derive(Debug, Clone)]
pub struct TunnelParams {
    /// Secret of both ends.
    pub preshared_key: PresharedKey,
    /// The desktop's address.
    pub host_address: IpAddr,
    /// The gateway's.
    pub gateway_address: IpAddr,
}

impl PartialEq for TunnelParams {
    // Both are the gateway's own words; nobody guesses here, so the time this takes tells nothing.
    fn eq(&self, other: &Self) -> bool {
        (self.host_address, self.gateway_address) == (other.host_address, other.gateway_address)
            && self.preshared_key.expose() == other.preshared_key.expose()
    }
}

/// The one server behind a session's port.
#[derive(Clone, Debug)]
pub enum ForwardTarget {
    /// A desktop of ours.
    Desktop(DesktopConnector),
    /// A service of this host.
    Service(ServiceAddress),
}

impl ForwardTarget {
    /// Waits until it is over. A service is nobody's to end: such a session lives until it is told
    /// to end, or its grace is over.
    async fn ended(&self) {
        match self {
            Self::Desktop(door) => door.ended().await,
            Self::Service(_) => std::future::pending().await,
        }
    }
}

/// The port in the tunnel: the usual one of what is spoken there.
#[must_use]
pub fn tunnel_port(kind: WorkspaceKind) -> u16 {
    match kind {
        WorkspaceKind::Rdp => RDP_PORT,
        WorkspaceKind::Html5 => WEB_PORT,
        WorkspaceKind::Linux | WorkspaceKind::Vnc => RFB_PORT,
    }
}

/// How many streams may be open, and how many wait to be accepted.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Open.
    pub max_open: usize,
    /// Waiting.
    pub backlog: usize,
}

/// How many streams a session of a kind has.
#[must_use]
pub fn stream_limits(kind: WorkspaceKind) -> StreamLimits {
    match kind {
        WorkspaceKind::Html5 => StreamLimits { max_open: WEB_STREAMS_MAX, backlog: WEB_BACKLOG },
        WorkspaceKind::Linux | WorkspaceKind::Vnc | WorkspaceKind::Rdp => {
            StreamLimits { max_open: STREAMS_MAX, backlog: BACKLOG }
        }
    }
}

/// A session's tunnel and what it forwards. Dropping it closes the tunnel and every stream.
#[derive(Debug)]
pub struct Forward {
    hub: Hub,
    id: TunnelId,
    public_key: PublicKey,
    params: TunnelParams,
    accept_task: AbortHandle,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.hub.remove(self.id);
        self.accept_task.abort();
    }
}

impl Forward {
    /// Adds the tunnel to the hub and forwards what comes through it to that port to what is
    /// inside.
    ///
    /// # Errors
    /// When the tunnel cannot be made.
    pub fn open(
        hub: &Hub,
        id: TunnelId,
        gateway: PublicKey,
        terms: TunnelParams,
        (port, streams): (u16, StreamLimits),
        inside: ForwardTarget,
    ) -> Result<Self, TunnelError> {
        let private_key = PrivateKey::generate().map_err(|_| TunnelError::Closed)?;
        let public_key = private_key.public_key();
        let tunnel = hub.add_peer(PeerConfig {
            id,
            private_key,
            peer_public_key: gateway,
            preshared_key: terms.preshared_key.clone(),
            // The gateway calls, as soon as it has our key: before that it would not know us, and
            // an initiation of ours would only count as a stranger's.
            endpoint: None,
            local_addr: terms.host_address,
            peer_addr: terms.gateway_address,
            keepalive: Some(KEEPALIVE),
            profile: Profile::Stream,
        })?;
        let listener = match tunnel.listen(port, streams.backlog) {
            Ok(listener) => listener,
            Err(error) => {
                tunnel.close();
                return Err(error);
            }
        };
        let serving =
            tokio::spawn(serve(listener, inside, tunnel, streams.max_open)).abort_handle();
        Ok(Self { hub: hub.clone(), id, public_key, params: terms, accept_task: serving })
    }

    /// Our public key in it.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Whether it is what the gateway asks for, and open.
    #[must_use]
    pub fn matches(&self, terms: &TunnelParams) -> bool {
        self.params == *terms && !self.accept_task.is_finished()
    }
}

/// Accepts streams until what is inside or the tunnel ends. Streams end with this task: they are in
/// its set.
async fn serve(mut listener: TunnelListener, inside: ForwardTarget, tunnel: Tunnel, most: usize) {
    let places = Arc::new(Semaphore::new(most));
    let mut streams = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = inside.ended() => break,
            () = tunnel.closed() => break,
            Some(_) = streams.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(stream) => stream,
                Err(_) => break,
            },
        };
        // Beyond the last place a stream is closed at once: the gateway sees it, instead of
        // waiting.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let inside = inside.clone();
        streams.spawn(async move {
            if let Err(error) = forward_stream(stream, &inside).await {
                tracing::debug!(%error, "a forwarded stream ended");
            }
            drop(place);
        });
    }
    tunnel.close();
}

async fn forward_stream(stream: TunnelStream, inside: &ForwardTarget) -> std::io::Result<()> {
    match inside {
        ForwardTarget::Desktop(door) => splice(stream, door.connect().await?).await,
        ForwardTarget::Service(address) => splice(stream, address.connect().await?).await,
    }
}

/// Joins a stream with a server until both directions are done; the end of one is passed on alone.
///
/// # Errors
/// What either of them died of.
pub async fn splice(
    stream: TunnelStream,
    desktop: impl AsyncRead + AsyncWrite,
) -> std::io::Result<()> {
    let (from_gateway, to_gateway) = tokio::io::split(stream);
    let (from_desktop, to_desktop) = tokio::io::split(desktop);
    tokio::try_join!(
        copy_direction(from_gateway, to_desktop),
        copy_direction(from_desktop, to_gateway)
    )
    .map(drop)
}

/// Carries one direction to its end, in a buffer that grows with what comes at once: a quiet stream
/// costs little.
async fn copy_direction(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER_MIN);
    loop {
        if from.read_buf(&mut buffer).await? == 0 {
            return to.shutdown().await;
        }
        let (length, full) = (buffer.len(), buffer.len() == buffer.capacity());
        to.write_all_buf(&mut buffer).await?;
        to.flush().await?;
        buffer.clear();
        if full && length < BUFFER_MAX {
            buffer = BytesMut::with_capacity(length * 2);
        } else {
            // What was written is room again: nobody else holds a part of it.
            buffer.reserve(length);
        }
    }
}
