//! What the fuzz targets have in common: the product's codecs, and conversations as bytes.
//!
//! A conversation is a row of pieces: a byte whose lowest bit is the direction (1: up), the piece's
//! length in two bytes (big endian), the piece.

#[path = "../../src/protocol/mod.rs"]
pub mod protocol;

pub use protocol::rdp::Direction;

/// Most pieces of one conversation that are played.
const PIECES: usize = 256;

/// Reads a conversation; what is cut short at the end is its last piece.
pub fn conversation(mut bytes: &[u8]) -> Vec<(Direction, &[u8])> {
    let mut pieces = Vec::new();
    while let [way, high, low, rest @ ..] = bytes
        && pieces.len() < PIECES
    {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        pieces.push((if way & 1 == 1 { Direction::Up } else { Direction::Down }, piece));
        bytes = behind;
    }
    pieces
}
