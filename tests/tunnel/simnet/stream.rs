//! One end of a connection in the simulated network.

use std::collections::VecDeque;
use std::time::Instant;

use portcullis::tunnel::peer::{ByteQueue, ConnId, Peer, Progress};

/// What one end of a connection still has to send, and what it has received.
#[derive(Default)]
pub struct Stream {
    pub outgoing: VecDeque<u8>,
    pub incoming: Vec<u8>,
    pub finish: bool,
    pub finished: bool,
    pub failed: Option<std::io::ErrorKind>,
    /// Bytes written or read at once; 0 means as many as possible.
    pub chunk: usize,
    pub paused: bool,
    fin_sent: bool,
}

impl Stream {
    pub(super) fn serve(&mut self, peer: &mut Peer, conn: ConnId, now: Instant) {
        let chunk = if self.chunk == 0 { usize::MAX } else { self.chunk };
        while !self.paused && !self.finished && self.failed.is_none() {
            let mut chain = ByteQueue::default();
            let progress = peer.read(conn, &mut chain, chunk, now);
            let known = self.incoming.len();
            self.incoming.resize(known + chain.len(), 0);
            chain.read(&mut self.incoming[known..]);
            match progress {
                Progress::Moved(_) => {}
                Progress::Pending => break,
                Progress::Finished => self.finished = true,
                Progress::Failed(kind) => self.failed = Some(kind),
            }
        }
        while !self.outgoing.is_empty() {
            let mut chain = ByteQueue::default();
            let n = self.outgoing.len().min(chunk).min(64 << 10);
            chain.extend(&self.outgoing.make_contiguous()[..n]);
            let progress = peer.write(conn, &mut chain);
            self.outgoing.drain(..n - chain.len());
            match progress {
                Progress::Moved(_) => {}
                Progress::Pending => break,
                Progress::Finished => panic!("wrote after the end"),
                Progress::Failed(kind) => {
                    self.failed = Some(kind);
                    self.outgoing.clear();
                }
            }
        }
        if self.finish && self.outgoing.is_empty() && !self.fin_sent {
            self.fin_sent = true;
            peer.shutdown(conn);
        }
    }
}
