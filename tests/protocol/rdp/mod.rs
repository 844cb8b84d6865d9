//! RDP between a real client and real servers: conversations captured in the clear (xfreerdp 2.11
//! with xrdp 0.9.21 and with FreeRDP's shadow server 2.11), replayed through the filter.
//!
//! A capture has one PDU per line: `>` for the client's, `<` for the server's. Big pictures after
//! the first two were omitted.

mod clipboard;
mod early;
mod fuzz;
mod policy;

use bytes::Bytes;
use portcullis::protocol::rdp::filter::{Edits, Filter};
use portcullis::protocol::rdp::frame::{Framer, Measure};
use portcullis::protocol::rdp::gcc::CoreEdits;
use portcullis::protocol::rdp::info::Credential;
use portcullis::protocol::rdp::refusal::Refusal;
use portcullis::protocol::rdp::{Clipboard, Direction, Policy, RdpError};

type Pdu = (Direction, Vec<u8>);

const OPEN: Policy = Policy { clipboard: Clipboard::Both, files: true, read_only: false };

/// A whole conversation, the negotiation included.
fn capture(text: &str) -> Vec<Pdu> {
    text.lines()
        .map(|line| {
            let (way, hex) = line.split_once(' ').unwrap();
            (if way == ">" { Direction::Up } else { Direction::Down }, hex::decode(hex).unwrap())
        })
        .collect()
}

/// After the negotiation: 282 PDUs, of which 92 were kept. The desktop requests the user's files,
/// and the user pastes the desktop's text.
fn xrdp() -> Vec<Pdu> {
    capture(include_str!("xrdp.txt")).split_off(2)
}

/// The same with FreeRDP's server, which opens a microphone and the graphics channel.
fn shadow() -> Vec<Pdu> {
    capture(include_str!("shadow.txt")).split_off(2)
}

fn edits() -> Edits {
    let credential = Credential {
        domain: "CORP".into(),
        user: "jürgen".into(),
        password: "geheim".to_owned().into(),
    };
    Edits {
        core: CoreEdits { selected: 2, keyboard_layout: Some(0x407) },
        credential: Some(credential),
    }
}

/// Output of a filter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    up: Vec<u8>,
    down: Vec<u8>,
    refusals: Vec<Refusal>,
    error: Option<RdpError>,
}

impl Outcome {
    fn of(&mut self, way: Direction) -> &mut Vec<u8> {
        match way {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    fn pdus(&self, way: Direction) -> Vec<Vec<u8>> {
        pdus(match way {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        })
    }
}

/// Splits a stream into PDUs.
fn pdus(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Ok(Measure::Known(frame)) = Framer::new().measure(stream) {
        let Some((pdu, rest)) = stream.split_at_checked(frame.length) else { break };
        found.push(pdu.to_vec());
        stream = rest;
    }
    assert!(stream.is_empty(), "it ends with a whole PDU");
    found
}

/// Replays a conversation through a filter, each PDU in pieces of `piece` bytes, as a relay does:
/// the filter's replies are sent at once.
fn play(policy: Policy, conversation: &[Pdu], piece: usize) -> Outcome {
    let mut filter = Filter::new(policy, edits());
    let mut outcome = Outcome::default();
    for (way, pdu) in conversation {
        for chunk in pdu.chunks(piece) {
            let mut out = Vec::new();
            let result = filter.feed(*way, &Bytes::copy_from_slice(chunk), &mut out);
            outcome.of(*way).extend(out.concat());
            let back = way.opposite();
            if filter.has_pending(back) {
                let mut out = Vec::new();
                filter.flush_pending(back, &mut out).unwrap();
                outcome.of(back).extend(out.concat());
            }
            if let Err(error) = result {
                outcome.error = Some(error);
                outcome.refusals = filter.refusals();
                return outcome;
            }
        }
    }
    outcome.refusals = filter.refusals();
    outcome
}

/// Replays it whole and in pieces, and asserts the same result.
fn play_in_pieces(policy: Policy, conversation: &[Pdu]) -> Outcome {
    let whole = play(policy, conversation, usize::MAX);
    for piece in [1, 7, 40] {
        let pieces = play(policy, conversation, piece);
        assert_eq!(pieces, whole, "in pieces of {piece}");
    }
    whole
}

/// User data of the Send Data PDUs on a channel. An independent parser that supports only what
/// these captures contain.
fn on_channel(stream: &[u8], channel: u16) -> Vec<Vec<u8>> {
    let data = |pdu: Vec<u8>| {
        let is_data = pdu[0] == 3 && matches!(pdu[7] >> 2, 25 | 26);
        let here = is_data && u16::from_be_bytes([pdu[10], pdu[11]]) == channel;
        here.then(|| if pdu[13] & 0x80 == 0 { pdu[14..].to_vec() } else { pdu[15..].to_vec() })
    };
    pdus(stream).into_iter().filter_map(data).collect()
}

/// The messages on a virtual channel, all of one chunk, without the chunk's header.
fn messages(stream: &[u8], channel: u16) -> Vec<Vec<u8>> {
    let body = |chunk: Vec<u8>| {
        assert_eq!(chunk[4] & 3, 3, "first and last");
        assert_eq!(
            usize::try_from(u32::from_le_bytes(chunk[..4].try_into().unwrap())).unwrap(),
            chunk.len() - 8
        );
        chunk[8..].to_vec()
    };
    on_channel(stream, channel).into_iter().map(body).collect()
}

fn joined(conversation: &[Pdu], way: Direction) -> Vec<u8> {
    conversation.iter().filter(|(w, _)| *w == way).flat_map(|(_, pdu)| pdu.clone()).collect()
}
