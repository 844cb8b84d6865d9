//! TCP for the inside of a tunnel, without I/O: segments, the time and a seed go in; segments and
//! deadlines come out.
//!
//! - A [`Connection`] is one end of a TCP connection (RFC 9293). `peer::netstack` manages them.
//! - A [`Segment`] is parsed from a packet; a [`SegmentHeader`] is what is needed to emit one. A
//!   [`PacketOutput`] takes the emitted packets.
//! - A [`ByteQueue`] holds bytes in chunks: queued data takes memory only while it is queued.
//! - The `scoreboard` keeps the state of every segment in flight: acknowledged, SACKed (RFC 2018)
//!   or lost, which is decided by time (RACK, RFC 8985).
//! - The congestion window (`cubic`, RFC 9438) bounds the data in flight; the receive window
//!   (`receive_buffer`) bounds what the peer may send.
//! - [`Micros`] is the time in microseconds since the tunnel was created; it never decreases.
//!
//! Why not an existing implementation: docs/adr/0012.

mod byte_queue;
mod checksum;
mod connection;
mod cubic;
mod delayed_ack;
mod header;
mod input;
mod output;
mod path_mtu;
mod pmtu_blackhole;
mod receive_buffer;
mod rtt;
mod scoreboard;
mod segment;
mod seq;
mod state;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod time;

pub use byte_queue::ByteQueue;
pub(super) use connection::{Connection, ConnectionConfig};
pub(super) use header::{PacketOutput, SegmentHeader};
pub(super) use input::SegmentOutcome;
pub(super) use segment::{AddressPair, Segment};
pub(super) use state::State;
pub(super) use time::Micros;
