//! The host's end of a session's own tunnel: new keys, and one port that is forwarded to one
//! desktop's socket or to one service.
//!
//! Nothing else is reachable through the tunnel: its address has one listener. It ends when it is
//! dropped, when the desktop ends, or when the tunnel is closed.

use super::desktop::DesktopConnector;
use super::services::ServiceAddress;
use crate::domain::upstream::StreamProtocol;
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

/// Most concurrent streams of a desktop session.
pub const STREAMS_MAX: usize = 8;
/// Most concurrent streams of a web application's session: each request under way, event stream and
/// WebSocket is one, and a browser opens a hundred requests at once over HTTP/2 (RFC 9113 section
/// 6.5.2).
pub const WEB_STREAMS_MAX: usize = 256;
/// Most streams that wait to be accepted.
const BACKLOG: usize = 8;
const WEB_BACKLOG: usize = 64;
/// Keeps NAT mappings open.
pub const KEEPALIVE: Duration = Duration::from_secs(25);
/// Size of each direction's buffer, in bytes: initially, and when it is filled.
const BUFFER_MIN: usize = 4 * 1024;
const BUFFER_MAX: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub struct TunnelParams {
    pub preshared_key: PresharedKey,
    pub host_address: IpAddr,
    pub gateway_address: IpAddr,
}

impl PartialEq for TunnelParams {
    // Both come from the authenticated gateway, so a comparison in constant time is not needed.
    fn eq(&self, other: &Self) -> bool {
        (self.host_address, self.gateway_address) == (other.host_address, other.gateway_address)
            && self.preshared_key.expose() == other.preshared_key.expose()
    }
}

/// What a session's port is forwarded to.
#[derive(Clone, Debug)]
pub enum ForwardTarget {
    Desktop(DesktopConnector),
    Service(ServiceAddress),
}

impl ForwardTarget {
    /// Resolves when the target has ended. A service does not end: its session lasts until it is
    /// stopped or its grace is over.
    async fn ended(&self) {
        match self {
            Self::Desktop(door) => door.ended().await,
            Self::Service(_) => std::future::pending().await,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    pub max_open: usize,
    /// Most that wait to be accepted.
    pub backlog: usize,
}

#[must_use]
pub fn stream_limits(protocol: StreamProtocol) -> StreamLimits {
    match protocol {
        StreamProtocol::Http => StreamLimits { max_open: WEB_STREAMS_MAX, backlog: WEB_BACKLOG },
        StreamProtocol::Rfb | StreamProtocol::Rdp => {
            StreamLimits { max_open: STREAMS_MAX, backlog: BACKLOG }
        }
    }
}

/// An open forward. Dropping it closes the tunnel and every stream.
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
    /// Adds the tunnel to the hub and forwards its port to the target.
    ///
    /// # Errors
    /// When the tunnel cannot be created.
    pub fn open(
        hub: &Hub,
        id: TunnelId,
        gateway: PublicKey,
        terms: TunnelParams,
        (port, streams): (u16, StreamLimits),
        target: ForwardTarget,
    ) -> Result<Self, TunnelError> {
        let private_key = PrivateKey::generate().map_err(|_| TunnelError::Closed)?;
        let public_key = private_key.public_key();
        let tunnel = hub.add_peer(PeerConfig {
            id,
            private_key,
            peer_public_key: gateway,
            preshared_key: terms.preshared_key.clone(),
            // The gateway initiates once it has our public key; before that it would treat an
            // initiation of ours as one of an unknown peer.
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
            tokio::spawn(serve(listener, target, tunnel, streams.max_open)).abort_handle();
        Ok(Self { hub: hub.clone(), id, public_key, params: terms, accept_task: serving })
    }

    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Whether it was opened with these parameters and is still open.
    #[must_use]
    pub fn matches(&self, terms: &TunnelParams) -> bool {
        self.params == *terms && !self.accept_task.is_finished()
    }
}

/// Accepts streams until the target or the tunnel ends. The streams' tasks end with this one.
async fn serve(mut listener: TunnelListener, target: ForwardTarget, tunnel: Tunnel, most: usize) {
    let permits = Arc::new(Semaphore::new(most));
    let mut streams = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = target.ended() => break,
            () = tunnel.closed() => break,
            Some(_) = streams.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(stream) => stream,
                Err(_) => break,
            },
        };
        // Above the limit a stream is closed at once, so that the gateway does not wait.
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let target = target.clone();
        streams.spawn(async move {
            if let Err(error) = forward_stream(stream, &target).await {
                tracing::debug!(%error, "a forwarded stream ended");
            }
            drop(permit);
        });
    }
    tunnel.close();
}

async fn forward_stream(stream: TunnelStream, target: &ForwardTarget) -> std::io::Result<()> {
    match target {
        ForwardTarget::Desktop(door) => splice(stream, door.connect().await?).await,
        ForwardTarget::Service(address) => splice(stream, address.connect().await?).await,
    }
}

/// Copies both directions until both have ended. The end of one direction is passed on alone.
///
/// # Errors
/// The first failure of either stream.
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

/// Copies one direction to its end. The buffer grows with the amount read at once, so that an idle
/// stream uses little memory.
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
            // Reuses the allocation: no other handle to it exists.
            buffer.reserve(length);
        }
    }
}
