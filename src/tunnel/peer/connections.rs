//! TCP operations of a [`Peer`], and the output they cause.

use std::time::Instant;

use super::Peer;
use super::types::{ConnId, PeerError, Progress};
use crate::tunnel::mtu::MTU;
use crate::tunnel::tcp::ByteQueue;

/// Passes of TCP output in one flush: output ends some connections, whose final segments need
/// another pass.
const FLUSH_PASSES_MAX: usize = 3;

impl Peer {
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

    /// Whether there may be output that did not fit into the transmit queue.
    pub fn has_pending_output(&self) -> bool {
        self.netstack.has_pending_output()
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

    /// Resets every connection and stops listening, before the keys are dropped.
    pub fn abort_all(&mut self, now: Instant) {
        self.transmits.clear();
        self.netstack.abort_all();
        self.egress(now);
    }

    /// Number of connections, open or not.
    pub fn connections(&self) -> usize {
        self.netstack.connections()
    }

    /// Lets TCP send, and collects events of connections. To be called after any operation; then
    /// drain the outputs.
    pub fn flush(&mut self, now: Instant) {
        for _ in 0..FLUSH_PASSES_MAX {
            self.egress(now);
            self.netstack.collect_events(&mut self.events, now);
            // An aborted connection has a RST to send.
            if !self.netstack.has_pending_output() || self.transmits.is_full() {
                break;
            }
        }
        self.probe_path_mtu(now);
    }

    /// Probes for a larger path MTU where that is useful; falls back to [`MTU`] when TCP detected a
    /// black hole.
    fn probe_path_mtu(&mut self, now: Instant) {
        if self.path_mtu.mtu() > self.netstack.mtu() {
            self.path_mtu.fall_back(now);
            self.set_path_mtu(MTU);
        }
        if !self.transmits.is_full()
            && self.path_mtu.probe_due(now)
            && self.netstack.wants_path_mtu_probe()
        {
            let (mut path_mtu, local, remote) = (self.path_mtu, self.local, self.remote);
            self.send_unbatched(now, |buffer| path_mtu.write_probe(local, remote, buffer, now));
            self.path_mtu = path_mtu;
        }
    }
}
