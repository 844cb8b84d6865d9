//! The hub's UDP socket: many datagrams per system call, both ways, where the kernel can.

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

/// What is asked of the kernel for each direction; it may grant less.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// One received message may hold this much: coalesced datagrams of one sender.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Messages taken in one system call.
const BATCH_SIZE: usize = 16;
/// A message shorter than this is copied to its owner, and its buffer used again at once. A longer
/// one travels in its buffer.
const COPY_THRESHOLD: usize = 4 << 10;
/// Buffers that travel and are waited for; when all are out, messages are copied.
const LENT_BUFFERS_MAX: usize = 64;

/// A UDP socket with its offloads.
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

    /// Segments a train may have.
    pub(super) fn segments_max(&self) -> usize {
        self.state.max_gso_segments().clamp(1, 64)
    }

    /// Sends a train, waiting for room in the kernel. What cannot be sent is counted and lost, as
    /// UDP is.
    pub(in crate::tunnel) async fn send(&self, train: &Transmit) {
        let to = self.to_socket_family(train.to);
        for part in self.gso_chunks(train) {
            loop {
                match self.try_send(to, part, train.segment_size) {
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

    /// Sends a train if the kernel has room for it.
    pub(in crate::tunnel) fn send_nonblocking(&self, train: &Transmit) {
        let to = self.to_socket_family(train.to);
        for part in self.gso_chunks(train) {
            self.count_send(self.try_send(to, part, train.segment_size));
        }
    }

    fn gso_chunks<'a>(&self, train: &'a Transmit) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        // The kernel may have refused segmentation since the train was built.
        train.contents.chunks((train.segment_size * self.segments_max()).max(1))
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

    /// Waits until there may be something to receive.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes what has arrived; answers with the number of messages, none if there was nothing after
    /// all.
    pub(super) fn receive(&self, buffers: &mut ReceiveBuffers) -> io::Result<usize> {
        let ReceiveBuffers { buffers: memory, metas, .. } = buffers;
        let mut slices = memory.iter_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        match self.socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.socket), &mut slices, metas)
        }) {
            // An ICMP answer to something we sent; says nothing about the socket.
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

/// Memory to receive into, kept between calls: as many buffers as messages, each full of bytes that
/// mean nothing until something is received.
pub(super) struct ReceiveBuffers {
    buffers: Vec<BytesMut>,
    metas: [RecvMeta; BATCH_SIZE],
    /// Buffers under way to owners, oldest first; they come back when the owner has dropped its
    /// part.
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

    /// Hands the first `count` messages to `take`: sender, size of a datagram, datagrams end to
    /// end.
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
                Some(spare) => {
                    let whole = std::mem::replace(&mut self.buffers[n], spare).freeze();
                    take(from, stride, &Message::Shared(whole.slice(..length)));
                    self.lent.push_back(whole);
                }
            }
        }
    }

    /// A buffer to receive into instead of one that travels; none when too many are out.
    fn acquire(&mut self) -> Option<BytesMut> {
        match self.lent.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(back)) => Some(back),
            Some(Err(out)) => {
                self.lent.push_front(out);
                (self.lent.len() < LENT_BUFFERS_MAX).then(new_buffer)
            }
            None => Some(new_buffer()),
        }
    }
}

fn new_buffer() -> BytesMut {
    BytesMut::zeroed(MESSAGE_BYTES_MAX)
}

/// One received message.
pub(super) enum Message<'a> {
    /// In a buffer that is used again at once.
    Borrowed(&'a [u8]),
    /// In a buffer that goes with it.
    Shared(Bytes),
}

impl Message<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    /// A part of it, to keep.
    pub(super) fn slice(&self, range: Range<usize>) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes.get(range).unwrap_or_default()),
            Self::Shared(bytes) => bytes.slice(range),
        }
    }
}
