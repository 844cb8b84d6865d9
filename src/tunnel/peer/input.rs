//! What comes into a [`Peer`]: datagrams from the network, and its users' operations.

use std::net::SocketAddr;
use std::time::Instant;

use boringtun::noise::TunnResult;

use super::path_mtu::Echo;
use super::types::{ConnId, Event, PeerError, Progress};
use super::wire::{addresses, u32_at};
use super::{Peer, scratch};
use crate::tunnel::mtu::MTU;
use crate::tunnel::tcp::ByteQueue;

/// Packets, and their bytes, received before TCP output is produced: acknowledgements, and the data
/// they allow to be sent, should not wait for the end of a long batch.
const ACK_EVERY: (u32, usize) = (32, 48 << 10);

impl Peer {
    /// Handles one datagram of any content. What is not authentic is counted and dropped.
    pub fn handle_datagram(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let kind = datagram.first_chunk().map(|kind| u32::from_le_bytes(*kind));
        let accepted = datagram.len() <= scratch::DATAGRAM_MAX
            && match kind {
                Some(4) => scratch::with_plaintext(|plaintext| {
                    self.handle_data(datagram, plaintext, from, now)
                }),
                Some(1..=3) => scratch::with_plaintext(|plaintext| {
                    self.handle_handshake(datagram, plaintext, from, now)
                }),
                _ => false,
            };
        if !accepted {
            self.counters.rejected += 1;
        }
    }

    fn handle_handshake(
        &mut self,
        datagram: &[u8],
        plaintext: &mut [u8],
        from: SocketAddr,
        now: Instant,
    ) -> bool {
        // Updates boringtun's clock, so that this session is newer than the last.
        self.maintain(now);
        let TunnResult::WriteToNetwork(answer) = ({
            match self.tunn.decapsulate(Some(from.ip()), datagram, plaintext) {
                // Only a cookie reply is handled without an answer; it does not authenticate the
                // sender's address.
                TunnResult::Done => return true,
                result => result,
            }
        }) else {
            return false;
        };
        let answer = answer.to_vec();
        match (u32_at(datagram, 0), u32_at(&answer, 0)) {
            (Some(1), Some(2)) => {
                self.keys.add(u32_at(&answer, 4).unwrap_or_default(), false, now);
                // The response goes to the sender, but the endpoint stays: an initiation from
                // before our restart could be replayed by anybody. Only the confirming packet,
                // which proves the new key, moves it.
            }
            (Some(2), Some(4)) => {
                self.keys.add(u32_at(datagram, 8).unwrap_or_default(), true, now);
                self.counters.rtt = self.initiated_at.map(|at| now.saturating_duration_since(at));
                self.update_endpoint(from, now);
                self.session_established(now);
                self.timers.packet_sent(now, false);
            }
            // A cookie reply: the sender must prove its address.
            _ => {}
        }
        self.counters.rx_bytes += datagram.len() as u64;
        self.send_to(from, &answer);
        // Required by boringtun: after an answer, call again until there is none.
        while let TunnResult::WriteToNetwork(more) = self.tunn.decapsulate(None, &[], plaintext) {
            let more = more.to_vec();
            self.send_to(from, &more);
        }
        true
    }

    fn handle_data(
        &mut self,
        datagram: &[u8],
        plaintext: &mut [u8],
        from: SocketAddr,
        now: Instant,
    ) -> bool {
        let Some(index) = u32_at(datagram, 4).filter(|&index| self.keys.admits(index, now)) else {
            return false;
        };
        let packet: &[u8] = match self.tunn.decapsulate(None, datagram, plaintext) {
            TunnResult::Done => &[],
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                packet
            }
            TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => return false,
        };
        let (length, between) = (packet.len(), addresses(packet));
        self.counters.rx_bytes += datagram.len() as u64;
        self.update_endpoint(from, now);
        if self.keys.confirm(index) {
            self.session_established(now);
        }
        self.timers.packet_received(now, length > 0);
        if self.keys.old_for_receiving(now) && !self.timers.attempting() {
            self.send_initiation(now);
        }
        if length == 0 {
            return true;
        }
        if between != Some((self.remote, self.local)) {
            self.counters.foreign += 1;
            return true;
        }
        self.last_data_rx = now;
        if let Some(echo) = Echo::parse(packet) {
            self.handle_echo(&echo, now);
            return true;
        }
        self.unacked = (self.unacked.0 + 1, self.unacked.1 + length);
        self.netstack.ingress(packet, now);
        if self.unacked.0 >= ACK_EVERY.0 || self.unacked.1 >= ACK_EVERY.1 {
            self.egress(now);
        }
        true
    }

    /// Replies to an echo request, or takes the reply to our path MTU probe.
    fn handle_echo(&mut self, echo: &Echo<'_>, now: Instant) {
        if echo.is_request {
            let (local, remote) = (self.local, self.remote);
            self.send_unbatched(now, |buffer| echo.write_reply(local, remote, buffer));
        } else if self.path_mtu.handle_reply(echo) {
            self.set_path_mtu(self.path_mtu.mtu());
        }
    }

    fn session_established(&mut self, now: Instant) {
        self.counters.handshakes += 1;
        self.timers.session_established(now);
        self.events.push_back(Event::HandshakeCompleted);
    }

    fn update_endpoint(&mut self, from: SocketAddr, now: Instant) {
        if self.endpoint != Some(from) {
            self.counters.roamed += u64::from(self.endpoint.is_some());
            self.endpoint = Some(from);
            self.netstack.endpoint_changed();
            if self.path_mtu.mtu() > MTU {
                self.set_path_mtu(MTU);
            }
            self.path_mtu.reset(now);
            self.events.push_back(Event::EndpointChanged(from));
        }
    }

    /// Opens a connection to a port of the peer; [`Event::Connected`] or [`Event::ConnectFailed`]
    /// follows. Starts a handshake if there is no session key.
    pub fn connect(&mut self, port: u16, now: Instant) -> Result<ConnId, PeerError> {
        let conn = self.netstack.connect(port, now)?;
        if !self.keys.usable(now) {
            self.initiate(now);
        }
        Ok(conn)
    }

    /// Accepts connections on a port; at most `backlog` may be half-open.
    pub fn listen(&mut self, port: u16, backlog: usize) -> Result<(), PeerError> {
        self.netstack.listen(port, backlog)
    }

    pub fn unlisten(&mut self, port: u16) {
        self.netstack.unlisten(port);
    }

    /// Appends the connections that may have something new for their users since the last call:
    /// data, buffer space, an end.
    pub fn drain_ready(&mut self, into: &mut Vec<ConnId>) {
        self.netstack.drain_ready(into);
    }

    /// Moves up to `limit` received bytes to the end of `into`.
    pub fn read(
        &mut self,
        conn: ConnId,
        into: &mut ByteQueue,
        limit: usize,
        now: Instant,
    ) -> Progress {
        self.netstack.read(conn, into, limit, now)
    }

    /// Takes bytes to be sent from the front of `from`, as many as there is space for.
    pub fn write(&mut self, conn: ConnId, from: &mut ByteQueue) -> Progress {
        self.netstack.write(conn, from)
    }

    /// Sends a FIN after what was written.
    pub fn shutdown(&mut self, conn: ConnId) {
        self.netstack.shutdown(conn);
    }

    pub fn abort(&mut self, conn: ConnId) {
        self.netstack.abort(conn);
    }

    /// Closes a connection and removes it once it is closed.
    pub fn release(&mut self, conn: ConnId, now: Instant) {
        self.netstack.release(conn, now);
    }
}
