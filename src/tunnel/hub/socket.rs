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
const BUFFER: usize = 8 << 20;
/// One received message may hold this much: coalesced datagrams of one sender.
const MESSAGE: usize = 64 << 10;
/// Messages taken in one system call.
const MESSAGES: usize = 16;
/// A message shorter than this is copied to its owner, and its buffer used again at once. A longer
/// one travels in its buffer.
const COPIED: usize = 4 << 10;
/// Buffers that travel and are waited for; when all are out, messages are copied.
const TRAVELLING: usize = 64;

/// A UDP socket with its offloads.
#[derive(Debug)]
pub(in crate::tunnel) struct HubSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    pub(super) sent: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl HubSocket {
    pub(super) fn bind(listen: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(listen)?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Best effort: a small buffer costs throughput, not correctness.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), BUFFER);
        let local = socket.local_addr()?;
        Ok(Self { socket, state, local, sent: AtomicU64::new(0), failed: AtomicU64::new(0) })
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
        let to = self.outward(train.to);
        for part in self.parts(train) {
            loop {
                match self.try_send(to, part, train.segment) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if self.socket.writable().await.is_err() {
                            return;
                        }
                    }
                    result => break self.count(result),
                }
            }
        }
    }

    /// Sends a train if the kernel has room for it.
    pub(in crate::tunnel) fn send_now(&self, train: &Transmit) {
        let to = self.outward(train.to);
        for part in self.parts(train) {
            self.count(self.try_send(to, part, train.segment));
        }
    }

    fn parts<'a>(&self, train: &'a Transmit) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        // The kernel may have refused segmentation since the train was built.
        train.contents.chunks((train.segment * self.segments_max()).max(1))
    }

    fn try_send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment_size = (contents.len() > segment).then_some(segment);
        let transmit =
            quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        self.socket.try_io(Interest::WRITABLE, || {
            self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
        })
    }

    fn count(&self, result: io::Result<()>) {
        let counter = if result.is_ok() { &self.sent } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// An IPv6 socket reaches IPv4 through mapped addresses (RFC 4291, section 2.5.5.2).
    fn outward(&self, to: SocketAddr) -> SocketAddr {
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
    pub(super) fn receive(&self, buffers: &mut Buffers) -> io::Result<usize> {
        let Buffers { memory, metas, .. } = buffers;
        let mut slices = memory.iter_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut slices: [IoSliceMut<'_>; MESSAGES] =
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

fn inward(from: SocketAddr) -> SocketAddr {
    match from.ip() {
        IpAddr::V6(v6) if v6 != Ipv6Addr::LOCALHOST => {
            SocketAddr::new(v6.to_canonical(), from.port())
        }
        _ => from,
    }
}

/// Memory to receive into, kept between calls: as many buffers as messages, each full of bytes that
/// mean nothing until something is received.
pub(super) struct Buffers {
    memory: Vec<BytesMut>,
    metas: [RecvMeta; MESSAGES],
    /// Buffers under way to owners, oldest first; they come back when the owner has dropped its
    /// part.
    travelling: VecDeque<Bytes>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            memory: vec![fresh(); MESSAGES],
            metas: [RecvMeta::default(); MESSAGES],
            travelling: VecDeque::new(),
        }
    }

    /// Hands the first `count` messages to `take`: sender, size of a datagram, datagrams end to
    /// end.
    pub(super) fn messages(
        &mut self,
        count: usize,
        mut take: impl FnMut(SocketAddr, usize, &Message<'_>),
    ) {
        for n in 0..count.min(MESSAGES) {
            let meta = &self.metas[n];
            let (from, stride, length) =
                (inward(meta.addr), meta.stride.max(1), meta.len.min(MESSAGE));
            if length == 0 {
                continue;
            }
            match if length < COPIED { None } else { self.spare() } {
                None => take(from, stride, &Message::Copied(&self.memory[n][..length])),
                Some(spare) => {
                    let whole = std::mem::replace(&mut self.memory[n], spare).freeze();
                    take(from, stride, &Message::Travelling(whole.slice(..length)));
                    self.travelling.push_back(whole);
                }
            }
        }
    }

    /// A buffer to receive into instead of one that travels; none when too many are out.
    fn spare(&mut self) -> Option<BytesMut> {
        match self.travelling.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(back)) => Some(back),
            Some(Err(out)) => {
                self.travelling.push_front(out);
                (self.travelling.len() < TRAVELLING).then(fresh)
            }
            None => Some(fresh()),
        }
    }
}

fn fresh() -> BytesMut {
    BytesMut::zeroed(MESSAGE)
}

/// One received message.
pub(super) enum Message<'a> {
    /// In a buffer that is used again at once.
    Copied(&'a [u8]),
    /// In a buffer that goes with it.
    Travelling(Bytes),
}

impl Message<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Travelling(bytes) => bytes,
        }
    }

    /// A part of it, to keep.
    pub(super) fn part(&self, range: Range<usize>) -> Bytes {
        match self {
            Self::Copied(bytes) => Bytes::copy_from_slice(bytes.get(range).unwrap_or_default()),
            Self::Travelling(bytes) => bytes.slice(range),
        }
    }
}
