//! Scratch buffers for one call: a decrypted datagram, a packet to be encrypted. They belong to the
//! thread, so that tunnels do not hold any.

use std::cell::Cell;

use crate::tunnel::mtu::MTU_MAX;

/// Longer datagrams are dropped. Ours are at most 8952 bytes; a standard peer's MTU may be a little
/// larger.
pub(super) const DATAGRAM_MAX: usize = 9216;

thread_local! {
    static PLAINTEXT: Cell<Box<[u8]>> = Cell::default();
    static PACKET: Cell<Box<[u8]>> = Cell::default();
}

/// Runs `f` with a buffer for a decrypted datagram.
pub(super) fn with_plaintext<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    with_buffer(&PLAINTEXT, DATAGRAM_MAX, f)
}

/// Runs `f` with a buffer for a packet of [`MTU_MAX`] bytes.
pub(super) fn with_packet<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    with_buffer(&PACKET, MTU_MAX, f)
}

/// Takes the buffer out of its slot while it is used; a nested call, of which there is none, would
/// allocate its own.
fn with_buffer<R>(
    slot: &'static std::thread::LocalKey<Cell<Box<[u8]>>>,
    size: usize,
    f: impl FnOnce(&mut [u8]) -> R,
) -> R {
    let mut buffer = slot.take();
    if buffer.len() != size {
        buffer = vec![0; size].into();
    }
    let result = f(&mut buffer);
    slot.set(buffer);
    result
}
