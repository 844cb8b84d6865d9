//! The owner task of one tunnel: the I/O around a [`Peer`].
//!
//! - Everything about a tunnel happens in this one task, so the packet path takes no locks.
//! - A **round**: handle commands, handle received datagrams, handle timeouts, move bytes between
//!   pipes and TCP, transmit, publish, wait.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use crate::domain::sync::lock;
use crate::tunnel::cross_thread_waker::WakeBatcher;
use crate::tunnel::handle::{Command, Shared, TunnelError};
use crate::tunnel::hub::registration::InboundBatch;
use crate::tunnel::hub::registry::Registry;
use crate::tunnel::hub::socket::HubSocket;
use crate::tunnel::peer::{ConnId, Event, Peer, Profile, TunnelStatus};
use crate::tunnel::stream::{Pipe, ServiceResult, TunnelStream};

/// Received batches handled in one round, at most.
const BATCHES_PER_ROUND: usize = 64;
/// A round takes no further batch after this many received bytes: decrypting them takes about 0.1
/// ms.
const ROUND_BYTES_MAX: usize = 128 << 10;
/// Shortest timeout: tokio's timer is no finer.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

struct Conn {
    pipe: Arc<Pipe>,
    fin_sent: bool,
}

struct Listener {
    port: u16,
    incoming: mpsc::Sender<TunnelStream>,
}

pub(super) struct Driver {
    /// Boxed because a task's future holds moved values more than once.
    pub(super) peer: Box<Peer>,
    pub(super) profile: Profile,
    pub(super) shared: Arc<Shared>,
    pub(super) socket: Arc<HubSocket>,
    pub(super) inbox: mpsc::Receiver<InboundBatch>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) registry: Arc<Registry>,
    pub(super) index: u32,
    pub(super) streams: StreamTable,
}

#[derive(Default)]
pub(super) struct StreamTable {
    conns: BTreeMap<ConnId, Conn>,
    connecting: BTreeMap<ConnId, oneshot::Sender<Result<TunnelStream, TunnelError>>>,
    listeners: Vec<Listener>,
    /// Streams to be serviced in the next round.
    notified: Vec<ConnId>,
    /// Streams whose user is gone before all data was sent: serviced in each round until it is sent
    /// or `LINGER` has passed.
    draining: Vec<ConnId>,
}

impl Driver {
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut armed: Option<Instant> = None;
        let mut batch = Vec::new();
        loop {
            let now = Instant::now();
            // Before received datagrams: a `listen` command may have been queued before the peer's
            // SYN arrived.
            while let Ok(command) = self.commands.try_recv() {
                self.handle_command(command, now);
            }
            self.handle_batch(&mut batch, now);
            self.peer.handle_timeout(now);
            let more = self.process(now).await;
            self.publish(now);
            if shared.closing.is_cancelled() {
                break;
            }
            if more || !self.inbox.is_empty() {
                // All tunnels share few threads: yield after each round so that no other tunnel
                // waits longer than that.
                tokio::task::yield_now().await;
                self.fill_batch(&mut batch);
                continue;
            }
            // The timer is only moved to an earlier time. Each segment sent arms a near deadline
            // and its acknowledgement a later one; a spurious wakeup costs less than resetting the
            // runtime's timer, which may wake the thread that sleeps on it.
            if let Some(at) = self.peer.poll_timeout(now).map(|at| at.max(now + TIMER_RESOLUTION))
                && armed.is_none_or(|armed| at < armed)
            {
                sleep.as_mut().reset(at.into());
                armed = Some(at);
            }
            tokio::select! {
                biased;
                () = shared.closing.cancelled() => break,
                received = self.inbox.recv() => match received {
                    Some(inbound) => {
                        batch.push(inbound);
                        self.fill_batch(&mut batch);
                    }
                    None => break,
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command, Instant::now()),
                    None => break,
                },
                () = shared.notifier.notified() => {
                    // Let other notified tasks of this thread write first, so that their data is
                    // sent in the same batch.
                    if self.streams.conns.len() > 1 {
                        tokio::task::yield_now().await;
                        self.fill_batch(&mut batch);
                    }
                }
                () = sleep.as_mut(), if armed.is_some() => armed = None,
            }
        }
        // Resets, so that the peer's streams end too; sending them does not wait.
        self.peer.abort_all(Instant::now());
        while let Some(transmit) = self.peer.poll_transmit() {
            self.socket.send_nonblocking(&transmit);
        }
    }

    /// Takes more received batches, up to the limits of a round.
    fn fill_batch(&mut self, batch: &mut Vec<InboundBatch>) {
        let mut bytes: usize = batch.iter().map(|inbound| inbound.contents.len()).sum();
        while batch.len() < BATCHES_PER_ROUND
            && bytes < ROUND_BYTES_MAX
            && let Ok(inbound) = self.inbox.try_recv()
        {
            bytes += inbound.contents.len();
            batch.push(inbound);
        }
    }

    fn handle_batch(&mut self, batch: &mut Vec<InboundBatch>, now: Instant) {
        for inbound in batch.drain(..) {
            self.shared.queued_bytes.fetch_sub(inbound.contents.len(), Ordering::Relaxed);
            for datagram in inbound.contents.chunks(inbound.stride.max(1)) {
                self.peer.handle_datagram(datagram, inbound.from, now);
            }
        }
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Initiate => self.peer.initiate(now),
            Command::Connect { port, answer } => match self.peer.connect(port, now) {
                Ok(conn) => {
                    self.streams.connecting.insert(conn, answer);
                }
                Err(error) => {
                    let _ = answer.send(Err(error.into()));
                }
            },
            Command::Listen { port, backlog, incoming } => {
                self.prune_listeners();
                if self.peer.listen(port, backlog).is_ok() {
                    self.streams.listeners.push(Listener { port, incoming });
                }
            }
        }
    }

    /// Closes listeners whose user is gone.
    fn prune_listeners(&mut self) {
        let peer = &mut self.peer;
        self.streams.listeners.retain(|listener| {
            let in_use = !listener.incoming.is_closed();
            if !in_use {
                peer.unlisten(listener.port);
            }
            in_use
        });
    }

    /// Services streams, runs TCP, transmits. Returns true if there is more to do without waiting.
    async fn process(&mut self, now: Instant) -> bool {
        self.prune_listeners();
        let peer = &mut self.peer;
        self.streams.connecting.retain(|&conn, answer| {
            let in_use = !answer.is_closed();
            if !in_use {
                peer.abort(conn);
                peer.release(conn, now);
            }
            in_use
        });
        self.service_streams(now);
        self.peer.flush(now);
        while let Some(event) = self.peer.poll_event() {
            self.handle_event(event, now);
        }
        let mut sent = false;
        while let Some(transmit) = self.peer.poll_transmit() {
            sent = true;
            tokio::select! {
                biased;
                () = self.shared.closing.cancelled() => return false,
                () = self.socket.send(&transmit) => {}
            }
            self.peer.recycle(transmit);
        }
        // TCP output that did not fit into the transmit queue, and streams created in this round.
        (sent && self.peer.has_pending_output()) || !self.streams.notified.is_empty()
    }

    /// Moves bytes of the streams that were notified, by their user or by TCP.
    fn service_streams(&mut self, now: Instant) {
        let (peer, StreamTable { conns, notified: in_use, draining: leaving, .. }) =
            (&mut self.peer, &mut self.streams);
        let mut wakes = WakeBatcher::default();
        self.shared.notifier.drain_into(in_use);
        peer.drain_ready(in_use);
        in_use.append(leaving);
        in_use.sort_unstable();
        in_use.dedup();
        for id in in_use.drain(..) {
            let Some(conn) = conns.get_mut(&id) else { continue };
            match conn.pipe.service(peer, &mut conn.fin_sent, &mut wakes, now) {
                ServiceResult::Serviced => {}
                ServiceResult::Draining => leaving.push(id),
                ServiceResult::Closed => drop(conns.remove(&id)),
            }
        }
        wakes.flush();
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::HandshakeCompleted => {
                let since =
                    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.shared
                    .last_handshake_ms
                    .store(i64::try_from(since.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
                tracing::debug!(tunnel = %self.shared.id.0, endpoint = ?self.peer.endpoint(), "tunnel.handshake");
            }
            Event::PathMtuChanged(mtu) => {
                tracing::debug!(tunnel = %self.shared.id.0, mtu, "tunnel.path")
            }
            Event::EndpointChanged(endpoint) => {
                // Publish counters before the endpoint and the status, so that a reader never sees
                // a new status with old values.
                self.publish_counters();
                let known = lock(&self.shared.endpoint).replace(endpoint);
                self.registry.endpoints.update(known, Some(endpoint));
            }
            Event::Connected { conn } => {
                if let Some(answer) = self.streams.connecting.remove(&conn) {
                    let stream = self.create_stream(conn);
                    // A caller that gave up drops the stream, which closes the connection.
                    let _ = answer.send(Ok(stream));
                }
            }
            Event::ConnectFailed { conn, kind } => {
                if let Some(answer) = self.streams.connecting.remove(&conn) {
                    let _ = answer.send(Err(if kind == io::ErrorKind::TimedOut {
                        TunnelError::TimedOut
                    } else {
                        TunnelError::Refused
                    }));
                }
            }
            Event::Accepted { conn, port } => self.accept(conn, port, now),
        }
    }

    /// Hands a connection to its listener; resets it if that is gone or its backlog full.
    fn accept(&mut self, conn: ConnId, port: u16, now: Instant) {
        let queue = self
            .streams
            .listeners
            .iter()
            .find(|listener| listener.port == port)
            .map(|listener| listener.incoming.clone());
        match queue.as_ref().and_then(|queue| queue.try_reserve().ok()) {
            Some(permit) => {
                let stream = self.create_stream(conn);
                permit.send(stream);
            }
            None => {
                self.peer.abort(conn);
                self.peer.release(conn, now);
            }
        }
    }

    fn create_stream(&mut self, conn: ConnId) -> TunnelStream {
        let pipe = Pipe::new(conn, self.profile, self.shared.notifier.clone());
        self.streams.notified.push(conn);
        self.streams.conns.insert(conn, Conn { pipe: pipe.clone(), fin_sent: false });
        TunnelStream::new(pipe)
    }

    fn publish(&self, now: Instant) {
        self.publish_counters();
        self.publish_status(self.peer.status(now));
    }

    fn publish_counters(&self) {
        let counters = self.peer.counters();
        let shared = &*self.shared;
        shared.tx_bytes.store(counters.tx_bytes, Ordering::Relaxed);
        shared.rx_bytes.store(counters.rx_bytes, Ordering::Relaxed);
        shared.retransmits.store(counters.retransmits, Ordering::Relaxed);
        shared.handshakes.store(counters.handshakes, Ordering::Relaxed);
        shared.rejected.store(counters.rejected + counters.foreign, Ordering::Relaxed);
        let micros = |time: Option<Duration>| {
            time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1))
        };
        shared.rtt_us.store(micros(counters.rtt), Ordering::Relaxed);
        shared.tcp_rtt_us.store(micros(counters.tcp_rtt), Ordering::Relaxed);
    }

    fn publish_status(&self, status: TunnelStatus) {
        self.shared.status.send_if_modified(|known| std::mem::replace(known, status) != status);
    }
}

impl Drop for Driver {
    /// However the task ends, no user keeps waiting and the hub removes the tunnel.
    fn drop(&mut self) {
        for conn in self.streams.conns.values() {
            conn.pipe.fail(io::ErrorKind::ConnectionAborted);
        }
        self.publish_status(TunnelStatus::Down);
        let endpoint = *lock(&self.shared.endpoint);
        self.registry.endpoints.update(endpoint, None);
        self.registry.remove(self.shared.id, self.index);
        self.shared.closing.cancel();
        self.shared.closed.cancel();
    }
}
