//! Output on its way from a relay to a browser: from the relay's chunk straight into the
//! connection's write buffer.
//!
//! - A **lane** is a short queue of WebSocket frames (RFC 6455, section 5.2). The relay waits while
//!   there is enough in it; that holds the desktop back.
//! - The [`Body`] is what the connection reads: the lane first, then what actix-ws has to say
//!   (pings, pongs, the close frame). Each of both gives whole frames, so they may be mixed; and a
//!   close frame comes after all output.
//!
//! actix-ws alone would copy each chunk into a frame, and frames that meet into a larger memory,
//! before the connection copies it again.

use super::browser::Gone;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Longest head of a frame of at most [`FRAME`] bytes.
const HEAD: usize = 4;
/// Most bytes of a frame: with its head four whole TLS records, which is what rustls takes at once.
pub(super) const FRAME: usize = (64 << 10) - HEAD;
/// Cost of what is in the lane with which the relay waits. One long frame waits while another is
/// written.
const ENOUGH: usize = FRAME;
/// What a piece costs besides its bytes.
const PIECE: usize = 64;
/// A frame shorter than this is one piece of memory with its head.
const SMALL: usize = 4 << 10;

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Bytes>,
    cost: usize,
    reader: Option<Waker>,
    gone: bool,
}

/// The relay's end.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    state: Arc<Mutex<State>>,
    room: Arc<Notify>,
}

impl Lane {
    /// Held for a few instructions, never over an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a chunk into the lane, in frames, waiting for room before each.
    pub(super) async fn send(&self, mut chunk: Bytes) -> Result<(), Gone> {
        while !chunk.is_empty() {
            loop {
                {
                    let state = self.lock();
                    if state.gone {
                        return Err(Gone);
                    }
                    if state.cost < ENOUGH {
                        break;
                    }
                }
                self.room.notified().await;
            }
            self.push(chunk.split_to(chunk.len().min(FRAME)));
        }
        Ok(())
    }

    fn push(&self, payload: Bytes) {
        let mut head =
            BytesMut::with_capacity(HEAD + if payload.len() < SMALL { payload.len() } else { 0 });
        // The last frame of a binary message, unmasked as a server's are.
        head.put_u8(0x82);
        match u8::try_from(payload.len()) {
            Ok(length @ ..126) => head.put_u8(length),
            // `send` makes no frame longer than `FRAME`.
            Ok(_) | Err(_) => {
                head.put_u8(126);
                head.put_u16(u16::try_from(payload.len()).unwrap_or(u16::MAX));
            }
        }
        let small = payload.len() < SMALL;
        if small {
            head.put_slice(&payload);
        }
        let mut state = self.lock();
        for piece in [Some(head.freeze()), (!small).then_some(payload)].into_iter().flatten() {
            state.cost += piece.len() + PIECE;
            state.pieces.push_back(piece);
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The next piece, if there is one; otherwise the reader is called when there is.
    fn next(&self, cx: &Context<'_>) -> Option<Bytes> {
        let mut state = self.lock();
        let Some(piece) = state.pieces.pop_front() else {
            if state.reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
                state.reader = Some(cx.waker().clone());
            }
            return None;
        };
        state.cost = state.cost.saturating_sub(piece.len() + PIECE);
        let room = state.cost < ENOUGH;
        drop(state);
        if room {
            self.room.notify_one();
        }
        Some(piece)
    }

    /// Nobody reads any more.
    fn end(&self) {
        let mut state = self.lock();
        state.gone = true;
        state.pieces = VecDeque::new();
        drop(state);
        self.room.notify_waiters();
        self.room.notify_one();
    }
}

/// The connection's end.
pub(super) struct Body {
    lane: Lane,
    rest: BoxBody,
}

impl Body {
    /// `rest`: the body that actix-ws made.
    pub(super) fn new(lane: Lane, rest: BoxBody) -> Self {
        Self { lane, rest }
    }
}

impl MessageBody for Body {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match self.lane.next(cx) {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => Pin::new(&mut self.rest).poll_next(cx),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.lane.end();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn taken(lane: &Lane) -> Vec<u8> {
        let cx = Context::from_waker(Waker::noop());
        std::iter::from_fn(|| lane.next(&cx)).flatten().collect()
    }

    #[test]
    fn a_frame_says_how_long_it_is() {
        for (length, head) in [
            (1, vec![0x82, 1]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (FRAME, vec![0x82, 126, 0xff, 0xfc]),
        ] {
            let lane = Lane::default();
            lane.send(vec![7; length].into()).now_or_never().unwrap().unwrap();
            let taken = taken(&lane);
            assert_eq!((&taken[..head.len()], taken.len()), (&head[..], head.len() + length));
        }
    }

    #[test]
    fn a_long_chunk_is_several_frames_and_waits_for_its_reader() {
        let lane = Lane::default();
        let mut sending = Box::pin(lane.send(vec![7; 3 * FRAME].into()));
        assert!(sending.as_mut().now_or_never().is_none());
        assert_eq!(taken(&lane).len(), FRAME + HEAD);
        assert!(sending.as_mut().now_or_never().is_none());
        assert_eq!(taken(&lane).len(), FRAME + HEAD);
        sending.as_mut().now_or_never().unwrap().unwrap();
        assert_eq!(taken(&lane).len(), FRAME + HEAD);
    }

    #[test]
    fn small_frames_wait_too_when_there_is_enough() {
        let lane = Lane::default();
        let mut sent = 0;
        while lane.send(vec![7; 100].into()).now_or_never().is_some() {
            sent += 100;
        }
        assert!((ENOUGH / 2..ENOUGH).contains(&sent), "{sent}");
        assert_eq!(taken(&lane).len(), sent + sent / 100 * 2);
        assert_eq!(lane.lock().cost, 0);
        assert!(lane.send(vec![7; 100].into()).now_or_never().is_some());
    }

    #[test]
    fn who_waits_for_a_reader_that_left_is_told() {
        let lane = Lane::default();
        let mut sending = Box::pin(lane.send(vec![7; 3 * FRAME].into()));
        assert!(sending.as_mut().now_or_never().is_none());
        drop(Body::new(lane.clone(), BoxBody::new(())));
        assert_eq!(sending.as_mut().now_or_never(), Some(Err(Gone)));
        assert_eq!(lane.send(vec![7; 1].into()).now_or_never(), Some(Err(Gone)));
    }
}
