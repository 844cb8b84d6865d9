//! The receive task: takes datagrams from the socket and dispatches them to tunnels.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::counters::Counters;
use super::demux::Demux;
use super::registration::Change;
use super::socket::{HubSocket, ReceiveBuffers};
use crate::tunnel::peer::Transmit;

/// Messages after which the receive loop yields.
const YIELD_EVERY: usize = 256;

pub(super) async fn receive_loop(
    socket: Arc<HubSocket>,
    mut changes: mpsc::UnboundedReceiver<Change>,
    mut demux: Demux,
    counters: Arc<Counters>,
    closing: CancellationToken,
) {
    let mut buffers = ReceiveBuffers::new();
    let mut since_yield = 0;
    let mut applied = Vec::new();
    loop {
        let ready = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            count = changes.recv_many(&mut applied, 64) => {
                if count == 0 {
                    return;
                }
                applied.drain(..).for_each(|change| demux.apply_change(change));
                continue;
            }
            ready = socket.readable(), if !demux.has_pending_initiations() => ready,
            // Pending initiations are processed after the datagrams that have arrived.
            () = std::future::ready(()), if demux.has_pending_initiations() => Ok(()),
        };
        let result = ready.and_then(|()| {
            let count = socket.receive(&mut buffers)?;
            // A tunnel's registration precedes its first datagram, so it is known here before a
            // response can arrive.
            while let Ok(change) = changes.try_recv() {
                demux.apply_change(change);
            }
            buffers.for_each_message(count, |from, stride, message| {
                counters.received.fetch_add(1, Ordering::Relaxed);
                counters.received_bytes.fetch_add(message.bytes().len() as u64, Ordering::Relaxed);
                demux.dispatch(from, stride, message);
            });
            let reply = |to, cookie: &[u8]| {
                socket.send_nonblocking(&Transmit {
                    to,
                    contents: cookie.to_vec(),
                    segment_size: cookie.len(),
                })
            };
            let more =
                demux.has_pending_initiations() && demux.process_initiations(Instant::now(), reply);
            // Decrypting an initiation takes as long as dispatching many messages.
            Ok(count + if more { YIELD_EVERY / 4 } else { 0 })
        });
        match result {
            Ok(count) => since_yield += count,
            Err(error) => {
                tracing::warn!(%error, "tunnel.receive");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if since_yield >= YIELD_EVERY {
            since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
}
