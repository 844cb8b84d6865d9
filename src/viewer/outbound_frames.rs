//! Output on its way from a relay to a browser: from the relay's chunk straight into the
//! connection's write buffer.
//!
//! - A **lane** is a short queue of WebSocket frames (RFC 6455, section 5.2). The relay waits while
//!   there is enough in it; that holds the desktop back.
//! - The [`FrameBody`] is what the connection reads: the lane first, then what actix-ws has to say
//!   (pings, pongs, the close frame). Each of both gives whole frames, so they may be mixed; and a
//!   close frame comes after all output.
//!
//! actix-ws alone would copy each chunk into a frame, and frames that meet into a larger memory,
//! before the connection copies it again.

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

/// Longest head of a frame of at most [`MAX_FRAME_PAYLOAD`] bytes.
const MAX_FRAME_HEADER: usize = 4;
/// Most bytes of a frame: with its head four whole TLS records, which is what rustls takes at once.
pub(super) const MAX_FRAME_PAYLOAD: usize = (64 << 10) - MAX_FRAME_HEADER;
/// Cost of what is in the lane with which the relay waits. One long frame waits while another is
/// written.
const HIGH_WATER_MARK: usize = MAX_FRAME_PAYLOAD;
/// What a piece costs besides its bytes.
const PIECE_OVERHEAD: usize = 64;
/// A frame shorter than this is one piece of memory with its head.
const COPY_THRESHOLD: usize = 4 << 10;

#[derive(Debug, Default)]
struct FrameQueue {
    pieces: VecDeque<Bytes>,
    cost: usize,
    reader: Option<Waker>,
    closed: bool,
}

/// The relay's end.
#[derive(Clone, Debug, Default)]
pub(super) struct OutboundFrames {
    state: Arc<Mutex<FrameQueue>>,
    writable: Arc<Notify>,
}

impl OutboundFrames {
    /// Held for a few instructions, never over an await.
    fn lock(&self) -> MutexGuard<'_, FrameQueue> {
        lock(&self.state)
    }

    /// Puts a chunk into the lane, in frames, waiting for room before each.
    pub(super) async fn send(&self, mut chunk: Bytes) -> Result<(), Disconnected> {
        while !chunk.is_empty() {
            loop {
                {
                    let state = self.lock();
                    if state.closed {
                        return Err(Disconnected);
                    }
                    if state.cost < HIGH_WATER_MARK {
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
        let mut head = BytesMut::with_capacity(
            MAX_FRAME_HEADER + if payload.len() < COPY_THRESHOLD { payload.len() } else { 0 },
        );
        // The last frame of a binary message, unmasked as a server's are.
        head.put_u8(0x82);
        match u8::try_from(payload.len()) {
            Ok(length @ ..126) => head.put_u8(length),
            // `send` makes no frame longer than `MAX_FRAME_PAYLOAD`.
            Ok(_) | Err(_) => {
                head.put_u8(126);
                head.put_u16(u16::try_from(payload.len()).unwrap_or(u16::MAX));
            }
        }
        let small = payload.len() < COPY_THRESHOLD;
        if small {
            head.put_slice(&payload);
        }
        let mut state = self.lock();
        for piece in [Some(head.freeze()), (!small).then_some(payload)].into_iter().flatten() {
            state.cost += piece.len() + PIECE_OVERHEAD;
            state.pieces.push_back(piece);
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The next piece, if there is one; otherwise the reader is called when there is.
    fn next_piece(&self, cx: &Context<'_>) -> Option<Bytes> {
        let mut state = self.lock();
        let Some(piece) = state.pieces.pop_front() else {
            if state.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
                state.reader = Some(cx.waker().clone());
            }
            return None;
        };
        state.cost = state.cost.saturating_sub(piece.len() + PIECE_OVERHEAD);
        let room = state.cost < HIGH_WATER_MARK;
        drop(state);
        if room {
            self.writable.notify_one();
        }
        Some(piece)
    }

    /// Nobody reads any more.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.pieces = VecDeque::new();
        drop(state);
        self.writable.notify_waiters();
        self.writable.notify_one();
    }
}

/// The connection's end.
pub(super) struct FrameBody {
    frames: OutboundFrames,
    control_frames: BoxBody,
}

impl FrameBody {
    /// `rest`: the body that actix-ws made.
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

    fn drain(lane: &OutboundFrames) -> Vec<u8> {
        let cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| lane.next_piece(&cx)).flatten().collect()
    }

    #[test]
    fn a_frame_says_how_long_it_is() {
        for (length, head) in [
            (1, vec![0x82, 1]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (MAX_FRAME_PAYLOAD, vec![0x82, 126, 0xff, 0xfc]),
        ] {
            let lane = OutboundFrames::default();
            lane.send(vec![7; length].into()).now_or_never().unwrap().unwrap();
            let taken = drain(&lane);
            assert_eq!((&taken[..head.len()], taken.len()), (&head[..], head.len() + length));
        }
    }

    #[test]
    fn a_long_chunk_is_several_frames_and_waits_for_its_reader() {
        let lane = OutboundFrames::default();
        let mut sending = Box::pin(lane.send(vec![7; 3 * MAX_FRAME_PAYLOAD].into()));
        assert!(sending.as_mut().now_or_never().is_none());
        assert_eq!(drain(&lane).len(), MAX_FRAME_PAYLOAD + MAX_FRAME_HEADER);
        assert!(sending.as_mut().now_or_never().is_none());
        assert_eq!(drain(&lane).len(), MAX_FRAME_PAYLOAD + MAX_FRAME_HEADER);
        sending.as_mut().now_or_never().unwrap().unwrap();
        assert_eq!(drain(&lane).len(), MAX_FRAME_PAYLOAD + MAX_FRAME_HEADER);
    }

    #[test]
    fn small_frames_wait_too_when_there_is_enough() {
        let lane = OutboundFrames::default();
        let mut sent = 0;
        while lane.send(vec![7; 100].into()).now_or_never().is_some() {
            sent += 100;
        }
        assert!((HIGH_WATER_MARK / 2..HIGH_WATER_MARK).contains(&sent), "{sent}");
        assert_eq!(drain(&lane).len(), sent + sent / 100 * 2);
        assert_eq!(lane.lock().cost, 0);
        assert!(lane.send(vec![7; 100].into()).now_or_never().is_some());
    }

    #[test]
    fn who_waits_for_a_reader_that_left_is_told() {
        let lane = OutboundFrames::default();
        let mut sending = Box::pin(lane.send(vec![7; 3 * MAX_FRAME_PAYLOAD].into()));
        assert!(sending.as_mut().now_or_never().is_none());
        drop(FrameBody::new(lane.clone(), BoxBody::new(())));
        assert_eq!(sending.as_mut().now_or_never(), Some(Err(Disconnected)));
        assert_eq!(lane.send(vec![7; 1].into()).now_or_never(), Some(Err(Disconnected)));
    }
}
