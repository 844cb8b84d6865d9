//! TCP for the inside of a tunnel, without I/O: segments, the time and a seed go in; segments and
//! deadlines come out.
//!
//! - A [`ConnectionContext`] is one end of one TCP connection (RFC 9293): its *state*, what it sends, what
//!   it receives. Many are kept by `peer::netstack`.
//! - A [`Segment`] is one TCP segment, read from a packet; [`SegmentHeader`] is what is needed to write
//!   one. An [`PacketOutput`] takes the packets written.
//! - A [`ByteQueue`] holds bytes in a row of chunks: what waits to be sent or read costs memory only
//!   while it waits.
//! - The **scoreboard** (`sent`) knows of every segment under way whether it was acknowledged,
//!   selectively acknowledged (RFC 2018) or lost, which is decided by time (RACK, RFC 8985).
//! - The **congestion window** (`cubic`, RFC 9438) is how much may be under way; the **receive
//!   window** (`received`) is how much the other end may send.
//! - [`Micros`] is the time, in microseconds since the tunnel was made. It never goes back.
//!
//! Why not another's: docs/adr/0012.

mod byte_queue;
mod checksum;
mod connection;
mod cubic;
mod delayed_ack;
mod input;
mod output;
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

pub use byte_queue::ByteQueue;
pub(super) use connection::{Connection, ConnectionConfig};
pub(super) use input::SegmentOutcome;
pub(super) use segment::{AddressPair, PacketOutput, Segment, SegmentHeader};
pub(super) use state::State;

/// Microseconds since the tunnel was made.
pub(super) type Micros = u64;
/// One millisecond.
const MS: Micros = 1_000;
