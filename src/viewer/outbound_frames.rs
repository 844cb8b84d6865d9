//! WebSocket output from a relay to a browser: from the relay's chunk straight into the
//! connection's write buffer (docs/adr/0017).
//!
//! - [`OutboundFrames`] is a short queue of WebSocket frames (RFC 6455 section 5.2). The relay
//!   waits above its high water mark, and so stops reading from the desktop.
//! - [`FrameBody`] is the response body that the connection polls: queued frames first, then the
//!   output of actix-ws (pings, pongs, the close frame). Both yield whole frames, so they may be
//!   mixed, and the close frame comes after all output.
//!
//! actix-ws alone would copy each chunk into a frame, and waiting frames into a larger buffer,
//! before the connection copies them again.

use super::browser::Disconnected;
use crate::domain::sync::lock;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Longest header of a frame of at most [`MAX_FRAME_PAYLOAD`] bytes.
const MAX_FRAME_HEADER: usize = 4;
/// Most payload bytes of a frame: with its header four full TLS records, which is what rustls takes
/// in one call.
pub(super) const MAX_FRAME_PAYLOAD: usize = (64 << 10) - MAX_FRAME_HEADER;
/// Cost of the queue from which on the relay waits: one long frame is queued while another is
/// written.
const HIGH_WATER_MARK: usize = MAX_FRAME_PAYLOAD;
/// Cost of a piece besides its bytes.
const PIECE_OVERHEAD: usize = 64;
/// A payload shorter than this is copied behind its header.
const COPY_THRESHOLD: usize = 4 << 10;

#[derive(Debug, Default)]
struct FrameQueue {
    pieces: VecDeque<Bytes>,
    cost: usize,
    reader: Option<Waker>,
    closed: bool,
}

/// The relay's side of the queue.
#[derive(Clone, Debug, Default)]
pub(super) struct OutboundFrames {
    queue: Arc<Mutex<FrameQueue>>,
    writable: Arc<Notify>,
}

impl OutboundFrames {
    /// Held for a few instructions, never across an await.
    fn lock(&self) -> MutexGuard<'_, FrameQueue> {
        lock(&self.queue)
    }

    /// Queues a chunk as frames, waiting for room before each.
    pub(super) async fn send(&self, mut chunk: Bytes) -> Result<(), Disconnected> {
        while !chunk.is_empty() {
            loop {
                {
                    let queue = self.lock();
                    if queue.closed {
                        return Err(Disconnected);
                    }
                    if queue.cost < HIGH_WATER_MARK {
                        break;
                    }
                }
                self.writable.notified().await;
            }
            self.push(chunk.split_to(chunk.len().min(MAX_FRAME_PAYLOAD)));
        }
        Ok(())
    }

    fn push(&self, payload: Bytes) {
        let mut header = BytesMut::with_capacity(
            MAX_FRAME_HEADER + if payload.len() < COPY_THRESHOLD { payload.len() } else { 0 },
        );
        // FIN and opcode 2 (binary); a server's frames are not masked.
        header.put_u8(0x82);
        match u8::try_from(payload.len()) {
            Ok(length @ ..126) => header.put_u8(length),
            // `send` makes no frame longer than `MAX_FRAME_PAYLOAD`.
            Ok(_) | Err(_) => {
                header.put_u8(126);
                header.put_u16(u16::try_from(payload.len()).unwrap_or(u16::MAX));
            }
        }
        let small = payload.len() < COPY_THRESHOLD;
        if small {
            header.put_slice(&payload);
        }
        let mut queue = self.lock();
        for piece in [Some(header.freeze()), (!small).then_some(payload)].into_iter().flatten() {
            queue.cost += piece.len() + PIECE_OVERHEAD;
            queue.pieces.push_back(piece);
        }
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The next piece; when there is none, the reader is woken by the next one.
    fn next_piece(&self, cx: &Context<'_>) -> Option<Bytes> {
        let mut queue = self.lock();
        let Some(piece) = queue.pieces.pop_front() else {
            if queue.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
                queue.reader = Some(cx.waker().clone());
            }
            return None;
        };
        queue.cost = queue.cost.saturating_sub(piece.len() + PIECE_OVERHEAD);
        let room = queue.cost < HIGH_WATER_MARK;
        drop(queue);
        if room {
            self.writable.notify_one();
        }
        Some(piece)
    }

    /// The reader is gone.
    fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.pieces = VecDeque::new();
        drop(queue);
        self.writable.notify_waiters();
        self.writable.notify_one();
    }
}

/// The connection's side of the queue.
pub(super) struct FrameBody {
    frames: OutboundFrames,
    control_frames: BoxBody,
}

impl FrameBody {
    /// `control_frames`: the body that actix-ws made.
    pub(super) fn new(frames: OutboundFrames, control_frames: BoxBody) -> Self {
        Self { frames, control_frames }
    }
}

impl MessageBody for FrameBody {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match self.frames.next_piece(cx) {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => Pin::new(&mut self.control_frames).poll_next(cx),
        }
    }
}

impl Drop for FrameBody {
    fn drop(&mut self) {
        self.frames.close();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn drain(frames: &OutboundFrames) -> Vec<u8> {
        let cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| frames.next_piece(&cx)).flatten().collect()
    }

    #[test]
    fn the_header_has_the_payload_length() {
        for (length, header) in [
            (1, vec![0x82, 1]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (MAX_FRAME_PAYLOAD, vec![0x82, 126, 0xff, 0xfc]),
        ] {
            let frames = OutboundFrames::default();
            frames.send(vec![7; length].into()).now_or_never().unwrap().unwrap();
            let written = drain(&frames);
            assert_eq!(
                (&written[..header.len()], written.len()),
                (&header[..], header.len() + length)
            );
        }
    }

    #[test]
    fn a_long_chunk_becomes_several_frames_and_waits_for_the_reader() {
        let frames = OutboundFrames::default();
        let mut sending = Box::pin(frames.send(vec![7; 3 * MAX_FRAME_PAYLOAD].into()));
        assert!(sending.as_mut().now_or_never().is_none());
        assert_eq!(drain(&frames).len(), MAX_FRAME_PAYLOAD + MAX_FRAME_HEADER);
        assert!(sending.as_mut().now_or_never().is_none());
        assert_eq!(drain(&frames).len(), MAX_FRAME_PAYLOAD + MAX_FRAME_HEADER);
        sending.as_mut().now_or_never().unwrap().unwrap();
        assert_eq!(drain(&frames).len(), MAX_FRAME_PAYLOAD + MAX_FRAME_HEADER);
    }

    #[test]
    fn small_frames_wait_above_the_high_water_mark() {
        let frames = OutboundFrames::default();
        let mut sent = 0;
        while frames.send(vec![7; 100].into()).now_or_never().is_some() {
            sent += 100;
        }
        assert!((HIGH_WATER_MARK / 2..HIGH_WATER_MARK).contains(&sent), "{sent}");
        assert_eq!(drain(&frames).len(), sent + sent / 100 * 2);
        assert_eq!(frames.lock().cost, 0);
        assert!(frames.send(vec![7; 100].into()).now_or_never().is_some());
    }

    #[test]
    fn a_waiting_sender_fails_when_the_reader_is_dropped() {
        let frames = OutboundFrames::default();
        let mut sending = Box::pin(frames.send(vec![7; 3 * MAX_FRAME_PAYLOAD].into()));
        assert!(sending.as_mut().now_or_never().is_none());
        drop(FrameBody::new(frames.clone(), BoxBody::new(())));
        assert_eq!(sending.as_mut().now_or_never(), Some(Err(Disconnected)));
        assert_eq!(frames.send(vec![7; 1].into()).now_or_never(), Some(Err(Disconnected)));
    }
}
