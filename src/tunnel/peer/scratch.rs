//! Working space of one call: a packet that was opened, a packet to be sealed. It belongs to the
//! thread, so that no tunnel keeps one.

use std::cell::Cell;

use super::{DATAGRAM_MAX, MTU_MAX};

thread_local! {
    static PLAINTEXT: Cell<Box<[u8]>> = Cell::default();
    static PACKET: Cell<Box<[u8]>> = Cell::default();
}

/// Runs `f` with room for a decrypted datagram.
pub(super) fn with_plaintext<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    with_buffer(&PLAINTEXT, DATAGRAM_MAX, f)
}

/// Runs `f` with room for a packet.
pub(super) fn with_packet<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    with_buffer(&PACKET, MTU_MAX, f)
}

/// Takes the space out of its place while it is used; a call within a call, of which there is none,
/// would make its own.
fn with_buffer<R>(
    place: &'static std::thread::LocalKey<Cell<Box<[u8]>>>,
    size: usize,
    f: impl FnOnce(&mut [u8]) -> R,
) -> R {
    let mut space = place.take();
    if space.len() != size {
        space = vec![0; size].into();
    }
    let result = f(&mut space);
    place.set(space);
    result
}
