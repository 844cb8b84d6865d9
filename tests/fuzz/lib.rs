//! Shared by the fuzz targets: the product's codecs, and conversations as bytes.
//!
//! A conversation is a sequence of pieces: a byte whose lowest bit is the direction (1: up), the
//! piece's length in two bytes (big endian), the piece.

pub mod domain;
#[path = "../../src/protocol/mod.rs"]
pub mod protocol;
pub mod tunnel;

pub use protocol::rdp::Direction;

/// Most pieces of a conversation that are used.
const PIECES: usize = 256;

/// Parses a conversation; a truncated piece at the end is the last one.
pub fn conversation(mut bytes: &[u8]) -> Vec<(Direction, &[u8])> {
    let mut pieces = Vec::new();
    while let [direction, high, low, rest @ ..] = bytes
        && pieces.len() < PIECES
    {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        pieces.push((if direction & 1 == 1 { Direction::Up } else { Direction::Down }, piece));
        bytes = behind;
    }
    pieces
}
