//! Chunks of static virtual channels (2.2.6.1, 3.1.5.2): a message is split into chunks; the first
//! and the last are flagged, and each carries the length of the message.

use super::mcs::{self, SendData};
use super::reader::u32_at;
use super::{Direction, RdpError};

/// Most bytes of a message that is reassembled from its chunks: lists of names, requests. Content
/// is never reassembled.
pub(super) const MAX_REASSEMBLED: usize = 64 * 1024;
/// Length of a chunk header.
pub(super) const HEADER: usize = 8;
/// `CHANNEL_CHUNK_LENGTH`: longest chunk that every peer accepts.
const MAX_CHUNK: usize = 1600;

const FIRST: u32 = 0x01;
const LAST: u32 = 0x02;
const SHOW_PROTOCOL: u32 = 0x10;
/// `CHANNEL_PACKET_COMPRESSED`, `CHANNEL_PACKET_AT_FRONT` and `CHANNEL_PACKET_FLUSHED`.
const COMPRESSED: u32 = 0x00e0_0000;

/// A chunk's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    /// Length of the whole message, in bytes.
    pub(super) total: usize,
    flags: u32,
    /// Offset of the chunk's part of the message, from the PDU's start.
    pub(super) offset: usize,
    /// Length of that part, in bytes.
    pub(super) length: usize,
}

impl Chunk {
    /// Reads the header; `name` is the channel's.
    pub(super) fn read(
        header: &[u8],
        data: SendData,
        name: &'static str,
    ) -> Result<Self, RdpError> {
        let field = |offset| {
            u32_at(header, data.offset + offset).ok_or(RdpError::Malformed("channel header"))
        };
        let (total, flags) = (field(0)? as usize, field(4)?);
        if flags & COMPRESSED != 0 {
            return Err(RdpError::Compressed(name));
        }
        Ok(Self {
            total,
            flags,
            offset: data.offset + HEADER,
            length: data.length.saturating_sub(HEADER),
        })
    }

    pub(super) fn is_first(self) -> bool {
        self.flags & FIRST != 0
    }

    fn is_last(self) -> bool {
        self.flags & LAST != 0
    }
}

/// What is done with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disposition {
    Pass,
    Drop,
    Reassemble,
}

/// Position of a channel within its messages, in one direction.
#[derive(Debug, Default)]
pub(super) struct ChunkReassembler {
    /// Disposition of the current message, and the bytes of it that are still to come.
    current: Option<(Disposition, usize)>,
    buffer: Vec<u8>,
}

impl ChunkReassembler {
    /// Whether a message has been forwarded in part.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.current, Some((Disposition::Pass, _)))
    }

    /// Returns the disposition of a chunk; `decide` is called for the first chunk of a message.
    ///
    /// Chunks out of order are an error, because implementations treat them differently.
    pub(super) fn next(
        &mut self,
        chunk: Chunk,
        decide: impl FnOnce() -> Result<Disposition, RdpError>,
    ) -> Result<Disposition, RdpError> {
        const ORDER: RdpError = RdpError::Unexpected("channel chunk");
        let (disposition, left) = match self.current {
            None if chunk.is_first() => {
                let disposition = decide()?;
                if disposition == Disposition::Reassemble && chunk.total > MAX_REASSEMBLED {
                    return Err(RdpError::TooLong {
                        what: "channel message",
                        length: chunk.total,
                        limit: MAX_REASSEMBLED,
                    });
                }
                (disposition, chunk.total)
            }
            Some(current) if !chunk.is_first() => current,
            None | Some(_) => return Err(ORDER),
        };
        let left = left.checked_sub(chunk.length).ok_or(RdpError::Malformed("channel header"))?;
        if chunk.is_last() != (left == 0) {
            return Err(RdpError::Malformed("channel header"));
        }
        self.current = (!chunk.is_last()).then_some((disposition, left));
        Ok(disposition)
    }

    /// Appends a chunk of a message that is reassembled; returns the message once it is complete.
    pub(super) fn append(&mut self, part: &[u8]) -> Option<Vec<u8>> {
        self.buffer.extend_from_slice(part);
        self.current.is_none().then(|| std::mem::take(&mut self.buffer))
    }
}

/// Addressing of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MessageAddress {
    pub(super) direction: Direction,
    pub(super) initiator: u16,
    pub(super) channel: u16,
    pub(super) show_protocol: bool,
}

/// Writes a message as Send Data PDUs.
pub(super) fn write(out: &mut Vec<u8>, to: MessageAddress, message: &[u8]) -> Result<(), RdpError> {
    let total = u32::try_from(message.len()).map_err(|_| RdpError::Malformed("channel message"))?;
    let parts = message.chunks(MAX_CHUNK).len();
    for (i, part) in message.chunks(MAX_CHUNK).enumerate() {
        mcs::write_send_data(
            out,
            to.direction == Direction::Up,
            to.initiator,
            to.channel,
            HEADER + part.len(),
        )?;
        let mut flags = if to.show_protocol { SHOW_PROTOCOL } else { 0 };
        flags |= if i == 0 { FIRST } else { 0 } | if i + 1 == parts { LAST } else { 0 };
        out.extend_from_slice(&total.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(total: usize, flags: u32, length: usize) -> Chunk {
        Chunk { total, flags, offset: 0, length }
    }

    #[test]
    fn a_message_has_one_disposition() {
        let mut messages = ChunkReassembler::default();
        assert_eq!(
            messages.next(chunk(10, FIRST, 4), || Ok(Disposition::Drop)),
            Ok(Disposition::Drop)
        );
        assert_eq!(messages.next(chunk(10, 0, 4), || panic!("asked once")), Ok(Disposition::Drop));
        assert_eq!(
            messages.next(chunk(10, LAST, 2), || panic!("asked once")),
            Ok(Disposition::Drop)
        );
        assert_eq!(
            messages.next(chunk(3, FIRST | LAST, 3), || Ok(Disposition::Reassemble)),
            Ok(Disposition::Reassemble)
        );
        assert_eq!(messages.append(b"abc"), Some(b"abc".to_vec()));
    }

    #[test]
    fn chunks_out_of_order_are_refused() {
        let started = || {
            let mut messages = ChunkReassembler::default();
            messages.next(chunk(10, FIRST, 4), || Ok(Disposition::Pass)).unwrap();
            assert!(messages.is_passing());
            messages
        };
        assert!(
            ChunkReassembler::default().next(chunk(10, 0, 4), || Ok(Disposition::Pass)).is_err(),
            "no first"
        );
        assert!(
            started().next(chunk(10, FIRST, 4), || Ok(Disposition::Pass)).is_err(),
            "two firsts"
        );
        assert!(
            started().next(chunk(10, LAST, 4), || Ok(Disposition::Pass)).is_err(),
            "the end too soon"
        );
        assert!(started().next(chunk(10, 0, 6), || Ok(Disposition::Pass)).is_err(), "no end");
        assert!(started().next(chunk(10, 0, 7), || Ok(Disposition::Pass)).is_err(), "too much");
        assert!(
            ChunkReassembler::default()
                .next(chunk(MAX_REASSEMBLED + 1, FIRST, 4), || Ok(Disposition::Reassemble))
                .is_err()
        );
    }

    #[test]
    fn written_chunks_can_be_parsed() {
        let to = MessageAddress {
            direction: Direction::Down,
            initiator: 1,
            channel: 1004,
            show_protocol: true,
        };
        let message: Vec<u8> = (0..4000).map(|i| i as u8).collect();
        let mut out = Vec::new();
        write(&mut out, to, &message).unwrap();
        let (mut rest, mut messages, mut read) =
            (&out[..], ChunkReassembler::default(), Vec::new());
        while !rest.is_empty() {
            let (pdu, after) = rest.split_at(usize::from(u16::from_be_bytes([rest[2], rest[3]])));
            let Ok(mcs::McsPdu::SendDataIndication(data)) = mcs::parse(pdu, pdu.len()) else {
                panic!("not data")
            };
            let chunk = Chunk::read(pdu, data, "x").unwrap();
            assert_eq!(
                messages.next(chunk, || Ok(Disposition::Reassemble)),
                Ok(Disposition::Reassemble)
            );
            read.extend(messages.append(&pdu[chunk.offset..]));
            rest = after;
        }
        assert_eq!(read, [message]);
    }
}
