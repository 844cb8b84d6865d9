//! Files, dynamic channels, input and sizes: what is forbidden does not pass.

use super::*;
use portcullis::protocol::rdp::refusal::RefusalKind;

/// Channel ids of the server, in both captures.
const RDPDR: u16 = 1004;
const RDPSND: u16 = 1005;
const CLIPRDR: u16 = 1006;
const DRDYNVC: u16 = 1007;

const CLOSED: Policy = Policy { clipboard: Clipboard::None, files: false, read_only: true };

fn refused(outcome: &Outcome, word: &str, way: Direction) -> (u64, u64) {
    let of = |r: &&Refusal| r.kind.reason_code() == word && r.direction == way;
    outcome.refusals.iter().filter(of).fold((0, 0), |sum, r| (sum.0 + r.count, sum.1 + r.bytes))
}

#[test]
fn forbidden_static_channels_carry_nothing() {
    for (conversation, talks) in [(xrdp(), true), (shadow(), false)] {
        let outcome = play_in_pieces(
            Policy { clipboard: Clipboard::None, files: false, read_only: false },
            &conversation,
        );
        assert_eq!(outcome.error, None);
        for channel in [RDPDR, CLIPRDR] {
            assert!(on_channel(&outcome.up, channel).is_empty());
            assert!(on_channel(&outcome.down, channel).is_empty());
        }
        let initial = &outcome.pdus(Direction::Up)[0];
        for name in ["rdpdr", "cliprdr"] {
            assert!(
                !initial.windows(name.len()).any(|w| w == name.as_bytes()),
                "the server never hears of {name}"
            );
        }
        assert!(initial.windows(6).any(|w| w == b"rdpsnd"));
        let sound = |stream: &[u8]| on_channel(stream, RDPSND).len();
        assert_eq!(
            sound(&outcome.down),
            sound(&joined(&conversation, Direction::Down)),
            "sound goes on"
        );
        let (count, bytes) = refused(&outcome, "static_channel", Direction::Up);
        assert_eq!(count > 0 && bytes > 0, talks);
    }
}

#[test]
fn forbidding_files_keeps_text() {
    let outcome = play_in_pieces(Policy { files: false, ..OPEN }, &xrdp());
    assert!(
        on_channel(&outcome.up, RDPDR).is_empty() && on_channel(&outcome.down, RDPDR).is_empty()
    );
    let text: Vec<u8> = "remote text".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(
        messages(&outcome.down, CLIPRDR).iter().any(|m| m.windows(text.len()).any(|w| w == text))
    );
}

#[test]
fn other_dynamic_channels_are_refused_for_the_client() {
    let conversation = shadow();
    let outcome = play_in_pieces(Policy { files: false, ..OPEN }, &conversation);
    assert_eq!(outcome.error, None);
    let down = messages(&outcome.down, DRDYNVC);
    assert!(
        !down.iter().any(|m| m.windows(11).any(|w| w == b"AUDIO_INPUT")),
        "the client never hears of the microphone"
    );
    assert!(
        !down.iter().any(|m| m.windows(8).any(|w| w == b"Graphics")),
        "nor of the pipeline whose sizes nobody could check"
    );
    let answer = [&[0x10, 0x01][..], &0xc000_0001_u32.to_le_bytes()].concat();
    let up = messages(&outcome.up, DRDYNVC);
    assert_eq!(
        up.iter().filter(|m| **m == answer).count(),
        1,
        "the server is told by us, and not again by the client of the capture"
    );
    for refused in ["AUDIO_INPUT", "Microsoft::Windows::RDS::Graphics"] {
        let named = |r: &Refusal| matches!(&r.kind, RefusalKind::DynamicChannel(name) if refused.starts_with(name.as_str()));
        assert!(outcome.refusals.iter().any(named), "{refused}: {:?}", outcome.refusals);
    }
}

#[test]
fn a_view_only_client_sends_no_input_and_receives_pictures() {
    for conversation in [xrdp(), shadow()] {
        let read_only = Policy { read_only: true, ..OPEN };
        let outcome = play_in_pieces(read_only, &conversation);
        assert_eq!(outcome.error, None);
        let sent = pdus(&joined(&conversation, Direction::Up));
        let came = outcome.pdus(Direction::Up);
        assert!(came.iter().all(|pdu| pdu[0] == 3), "no fast path");
        let inputs: Vec<&Vec<u8>> = sent.iter().filter(|pdu| pdu[0] != 3).collect();
        assert!(!inputs.is_empty());
        let bytes = inputs.iter().map(|pdu| pdu.len() as u64).sum::<u64>();
        assert_eq!(refused(&outcome, "input", Direction::Up), (inputs.len() as u64, bytes));
        let io = |stream: &[u8]| on_channel(stream, 1003).len();
        assert_eq!(
            io(&outcome.up),
            io(&joined(&conversation, Direction::Up)),
            "synchronize, control, frame acknowledge and the rest pass"
        );
    }
}

/// A message on `drdynvc`, in one chunk.
fn dynamic(way: Direction, message: &[u8]) -> Pdu {
    let total = u8::try_from(message.len()).unwrap();
    let (_, mut pdu) = share(&[&[total, 0, 0, 0, 3, 0, 0, 0], message].concat());
    pdu[7] = if way == Direction::Up { 0x64 } else { 0x68 };
    pdu[10..12].copy_from_slice(&DRDYNVC.to_be_bytes());
    (way, pdu)
}

#[test]
fn a_view_only_client_does_not_resize_the_desktop() {
    let create = [&[0x10, 9][..], b"Microsoft::Windows::RDS::DisplayControl\0"].concat();
    // DISPLAYCONTROL_MONITOR_LAYOUT_PDU, as far as its header (MS-RDPEDISP 2.2.2.2).
    let layout = dynamic(Direction::Up, &[0x30, 9, 2, 0, 0, 0, 56, 0, 0, 0]);
    let answer = dynamic(Direction::Up, &[0x10, 9, 0, 0, 0, 0]);
    let conversation =
        [xrdp(), vec![dynamic(Direction::Down, &create), answer.clone(), layout.clone()]].concat();
    let free = play_in_pieces(Policy { files: false, ..OPEN }, &conversation);
    assert!(free.up.ends_with(&layout.1));
    let looking = play_in_pieces(Policy { read_only: true, ..OPEN }, &conversation);
    assert!(looking.up.ends_with(&answer.1), "its channel is there, what it asks for is not");
    let before = play_in_pieces(Policy { read_only: true, ..OPEN }, &xrdp());
    assert_eq!(
        refused(&looking, "input", Direction::Up).0,
        refused(&before, "input", Direction::Up).0 + 1
    );
}

#[test]
fn the_font_map_is_forwarded_separately() {
    let conversation = xrdp();
    let is_map = |pdu: &[u8]| {
        pdu[0] == 3
            && pdu[7] == 0x68
            && pdu.get(10..12) == Some(&[3, 0xeb])
            && pdu.get(28) == Some(&0x28)
    };
    let map = conversation.iter().position(|(w, p)| *w == Direction::Down && is_map(p)).unwrap();
    let mut filter = Filter::new(OPEN, edits());
    for (way, pdu) in &conversation[..map] {
        filter.feed(*way, &Bytes::copy_from_slice(pdu), &mut Vec::new()).unwrap();
    }
    let bell = vec![0, 3, 0];
    let mut pieces = Vec::new();
    let together = [&bell[..], &conversation[map].1, &bell].concat();
    filter.feed(Direction::Down, &together.into(), &mut pieces).unwrap();
    assert_eq!(pieces, [&bell, &conversation[map].1, &bell]);
}

/// A slow-path PDU up on the I/O channel.
fn share(body: &[u8]) -> Pdu {
    let length = u16::try_from(body.len()).unwrap();
    let head = [
        &[3, 0][..],
        &(length + 15).to_be_bytes(),
        &[2, 0xf0, 0x80, 0x64, 0, 7, 3, 0xeb, 0x70],
        &(0x8000 | length).to_be_bytes(),
    ]
    .concat();
    (Direction::Up, [&head, body].concat())
}

fn share_data(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut pdu = vec![0; 18];
    pdu[0] = u8::try_from(18 + body.len()).unwrap();
    (pdu[2], pdu[14]) = (0x17, kind);
    [pdu, body.to_vec()].concat()
}

#[test]
fn slow_path_input_is_detected_anywhere() {
    let key = share_data(0x1c, &[1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0x1e, 0, 0, 0]);
    let hidden = [share_data(0x1f, &[1, 0, 0xea, 3]), key.clone()].concat();
    // As a licensing PDU, whose header has flags.
    let mut licence = key.clone();
    licence.resize(0x80, 0);
    licence[0] = 0x80;
    for body in [key, hidden, licence] {
        let conversation = [xrdp(), vec![share(&body)]].concat();
        let read_only = play_in_pieces(Policy { read_only: true, ..OPEN }, &conversation);
        let before = play_in_pieces(Policy { read_only: true, ..OPEN }, &xrdp());
        assert_eq!(read_only.up, before.up, "nothing of it passes");
        assert_eq!(
            refused(&read_only, "input", Direction::Up).0,
            refused(&before, "input", Direction::Up).0 + 1
        );
        assert!(
            play(Policy { files: false, ..OPEN }, &conversation, usize::MAX).up.ends_with(&body)
        );
    }
}

#[test]
fn invalid_desktop_sizes_are_refused_at_any_time() {
    let conversation = xrdp();
    let demand = conversation
        .iter()
        .position(|(w, p)| *w == Direction::Down && p.get(17..19) == Some(&[0x11, 0]))
        .unwrap();
    let pdu = &conversation[demand].1;
    // The bitmap capability set: type 2, 28 bytes; the desktop's size is at 12.
    let at = pdu.windows(4).position(|w| w == [2, 0, 0x1c, 0]).unwrap() + 12;
    assert_eq!(pdu[at..at + 4], [0x00, 0x04, 0x00, 0x03], "1024 x 768");
    let mut invalid = pdu.clone();
    invalid[at..at + 4].copy_from_slice(&[0x60, 0xea, 0x60, 0xea]);
    let error = Some(RdpError::DesktopSize { width: 60_000, height: 60_000 });
    for policy in [OPEN, CLOSED] {
        let mut first = conversation.clone();
        first[demand].1.clone_from(&invalid);
        assert_eq!(play_in_pieces(policy, &first).error, error);
        let later = [conversation.clone(), vec![(Direction::Down, invalid.clone())]].concat();
        let outcome = play_in_pieces(policy, &later);
        assert_eq!(outcome.error, error);
        assert!(!outcome.down.windows(invalid.len()).any(|w| w == invalid));
    }
}

#[test]
fn data_on_unopened_channels_is_dropped() {
    let mut stray = share(&[0x0c, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4]).1;
    for channel in [1u16, 1002, 1100] {
        stray[10..12].copy_from_slice(&channel.to_be_bytes());
        let conversation = [xrdp(), vec![(Direction::Up, stray.clone())]].concat();
        let outcome = play_in_pieces(Policy { files: false, ..OPEN }, &conversation);
        assert!(on_channel(&outcome.up, channel).is_empty());
        assert_eq!(refused(&outcome, "other", Direction::Up), (1, 12));
    }
}

#[test]
fn compression_is_neither_requested_nor_accepted() {
    let conversation = xrdp();
    let flags = |outcome: &Outcome| {
        let info = outcome
            .pdus(Direction::Up)
            .into_iter()
            .find(|p| p.len() > 23 && p[7] == 0x64 && p[15] == 0x40)
            .unwrap();
        u32::from_le_bytes(info[23..27].try_into().unwrap())
    };
    assert_ne!(flags(&play_in_pieces(OPEN, &conversation)) & 0x80, 0, "the client asks for it");
    let policy = Policy { files: false, ..OPEN };
    assert_eq!(flags(&play_in_pieces(policy, &conversation)) & 0x1e80, 0);
    let mut compressed = conversation.clone();
    let list = compressed
        .iter_mut()
        .find(|(w, p)| *w == Direction::Down && p[0] == 3 && p.get(10..12) == Some(&[3, 0xee]))
        .unwrap();
    list.1[14 + 6] |= 0x20;
    assert_eq!(play_in_pieces(policy, &compressed).error, Some(RdpError::Compressed("cliprdr")));
}
