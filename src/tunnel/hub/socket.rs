//! The hub's UDP socket: many datagrams per system call in both directions, where the kernel
//! supports it.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::tunnel::peer::Transmit;

/// Requested size of the kernel's buffers, each direction; it may grant less.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// Largest received message: coalesced datagrams of one sender.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Messages received in one system call.
const BATCH_SIZE: usize = 16;
/// A message shorter than this is copied, and its buffer reused at once. A longer one is passed on
/// in its buffer.
const COPY_THRESHOLD: usize = 4 << 10;
/// Buffers that may be lent to owners; when all are, messages are copied.
const LENT_BUFFERS_MAX: usize = 64;

/// A UDP socket with its offloads (GSO, GRO).
#[derive(Debug)]
pub(in crate::tunnel) struct HubSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    pub(super) sent: AtomicU64,
    pub(super) send_failed: AtomicU64,
}

impl HubSocket {
    pub(super) fn bind(listen: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(listen)?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Best effort: a small buffer costs throughput, not correctness.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_BYTES);
        let local = socket.local_addr()?;
        Ok(Self { socket, state, local, sent: AtomicU64::new(0), send_failed: AtomicU64::new(0) })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Segments of one GSO send.
    pub(super) fn segments_max(&self) -> usize {
        self.state.max_gso_segments().clamp(1, 64)
    }

    /// Sends a batch, waiting for space in the socket buffer. Errors are counted; the datagrams are
    /// lost.
    pub(in crate::tunnel) async fn send(&self, batch: &Transmit) {
        let to = self.to_socket_family(batch.to);
        for part in self.gso_chunks(batch) {
            loop {
                match self.try_send(to, part, batch.segment_size) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if self.socket.writable().await.is_err() {
                            return;
                        }
                    }
                    result => break self.count_send(result),
                }
            }
        }
    }

    /// Sends a batch if there is space in the socket buffer.
    pub(in crate::tunnel) fn send_nonblocking(&self, batch: &Transmit) {
        let to = self.to_socket_family(batch.to);
        for part in self.gso_chunks(batch) {
            self.count_send(self.try_send(to, part, batch.segment_size));
        }
    }

    fn gso_chunks<'a>(&self, batch: &'a Transmit) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        // The kernel may have refused segmentation since the batch was built.
        batch.contents.chunks((batch.segment_size * self.segments_max()).max(1))
    }

    fn try_send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment_size = (contents.len() > segment).then_some(segment);
        let transmit =
            quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        self.socket.try_io(Interest::WRITABLE, || {
            self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
        })
    }

    fn count_send(&self, result: io::Result<()>) {
        let counter = if result.is_ok() { &self.sent } else { &self.send_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// An IPv6 socket reaches IPv4 through mapped addresses (RFC 4291, section 2.5.5.2).
    fn to_socket_family(&self, to: SocketAddr) -> SocketAddr {
        match (self.local.ip(), to.ip()) {
            (IpAddr::V6(_), IpAddr::V4(v4)) => {
                SocketAddr::new(v4.to_ipv6_mapped().into(), to.port())
            }
            _ => to,
        }
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives what has arrived. Returns the number of messages, which may be zero.
    pub(super) fn receive(&self, buffers: &mut ReceiveBuffers) -> io::Result<usize> {
        let ReceiveBuffers { buffers: memory, metas, .. } = buffers;
        let mut slices = memory.iter_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        match self.socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.socket), &mut slices, metas)
        }) {
            // An ICMP error caused by a datagram we sent; says nothing about the socket.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(0)
            }
            result => result,
        }
    }
}

fn canonical_address(from: SocketAddr) -> SocketAddr {
    match from.ip() {
        IpAddr::V6(v6) if v6 != Ipv6Addr::LOCALHOST => {
            SocketAddr::new(v6.to_canonical(), from.port())
        }
        _ => from,
    }
}

/// Buffers to receive into, kept between calls: one per message, initialized to zeros.
pub(super) struct ReceiveBuffers {
    buffers: Vec<BytesMut>,
    metas: [RecvMeta; BATCH_SIZE],
    /// Buffers lent to owners, oldest first; available again once the owner has dropped its slice.
    lent: VecDeque<Bytes>,
}

impl ReceiveBuffers {
    pub(super) fn new() -> Self {
        Self {
            buffers: vec![new_buffer(); BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
            lent: VecDeque::new(),
        }
    }

    /// Passes the first `count` messages to `take`: sender, datagram size, and the concatenated
    /// datagrams.
    pub(super) fn for_each_message(
        &mut self,
        count: usize,
        mut take: impl FnMut(SocketAddr, usize, &Message<'_>),
    ) {
        for n in 0..count.min(BATCH_SIZE) {
            let meta = &self.metas[n];
            let (from, stride, length) =
                (canonical_address(meta.addr), meta.stride.max(1), meta.len.min(MESSAGE_BYTES_MAX));
            if length == 0 {
                continue;
            }
            match if length < COPY_THRESHOLD { None } else { self.acquire() } {
                None => take(from, stride, &Message::Borrowed(&self.buffers[n][..length])),
                Some(free) => {
                    let buffer = std::mem::replace(&mut self.buffers[n], free).freeze();
                    take(from, stride, &Message::Shared(buffer.slice(..length)));
                    self.lent.push_back(buffer);
                }
            }
        }
    }

    /// A buffer to replace a lent one; `None` when too many are lent.
    fn acquire(&mut self) -> Option<BytesMut> {
        match self.lent.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(free)) => Some(free),
            Some(Err(in_use)) => {
                self.lent.push_front(in_use);
                (self.lent.len() < LENT_BUFFERS_MAX).then(new_buffer)
            }
            None => Some(new_buffer()),
        }
    }
}

fn new_buffer() -> BytesMut {
    BytesMut::zeroed(MESSAGE_BYTES_MAX)
}

/// A received message: one or more datagrams of one sender.
pub(super) enum Message<'a> {
    /// In a buffer that is reused at once.
    Borrowed(&'a [u8]),
    /// In a buffer that is lent with it.
    Shared(Bytes),
}

impl Message<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    /// A part of it, owned.
    pub(super) fn slice(&self, range: Range<usize>) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes.get(range).unwrap_or_default()),
            Self::Shared(bytes) => bytes.slice(range),
        }
    }
}
