//! Where chunks pass by: the seam for policy filters and recorders. Meters are not one: they are atomics in the relay.

use bytes::Bytes;

/// Which way a chunk goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Browser to desktop.
    Up,
    /// Desktop to browser.
    Down,
}

/// Sees every chunk, in order, just before it goes on. A chunk is whatever arrived at once; it says nothing about where messages begin.
///
/// Both directions run at the same time, so it is called by shared reference, though never from two threads at once.
pub trait Tap {
    /// A chunk passes.
    fn pass(&self, direction: Direction, chunk: &Bytes);
}

/// Sees nothing, and costs nothing: the call is compiled away.
#[derive(Clone, Copy, Debug)]
pub struct NoTap;

impl Tap for NoTap {
    #[inline(always)]
    fn pass(&self, _: Direction, _: &Bytes) {}
}
