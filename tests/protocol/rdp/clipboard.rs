//! The clipboard: content of a forbidden direction does not pass, and every request is answered.

use super::*;

const CLIPRDR: u16 = 1006;

/// The clipboard's messages of a direction: type, flags, body.
fn clipboard(outcome: &Outcome, way: Direction) -> Vec<(u16, u16, Vec<u8>)> {
    let stream = match way {
        Direction::Up => &outcome.up,
        Direction::Down => &outcome.down,
    };
    let field = |m: &[u8], at: usize| u16::from_le_bytes([m[at], m[at + 1]]);
    messages(stream, CLIPRDR)
        .into_iter()
        .map(|m| (field(&m, 0), field(&m, 2), m[8..8 + usize::from(field(&m, 4))].to_vec()))
        .collect()
}

fn kinds(outcome: &Outcome, way: Direction) -> Vec<u16> {
    clipboard(outcome, way).into_iter().map(|(kind, _, _)| kind).collect()
}

fn refusals(outcome: &Outcome, word: &str, way: Direction) -> Option<(u64, u64)> {
    outcome
        .refusals
        .iter()
        .find(|r| r.kind.reason_code() == word && r.direction == way)
        .map(|r| (r.count, r.bytes))
}

fn with(clipboard: Clipboard, files: bool) -> Policy {
    Policy { clipboard, files, read_only: false }
}

/// In the capture: the client's capabilities and list (7, 2), the server's acknowledgement (3), its
/// request for the client's file names (4), which the client fails (5); then the server's list (2),
/// the client's acknowledgement (3) and request (4), and the server's text (5).
#[test]
fn without_restrictions_everything_passes() {
    let outcome = play_in_pieces(with(Clipboard::Both, true), &xrdp());
    assert_eq!(kinds(&outcome, Direction::Up), [7, 2, 5, 3, 4]);
    assert_eq!(kinds(&outcome, Direction::Down), [7, 1, 3, 4, 2, 5]);
    assert_eq!(outcome.refusals, []);
}

#[test]
fn inbound_only_the_desktops_text_does_not_pass() {
    let outcome = play_in_pieces(with(Clipboard::In, true), &xrdp());
    assert_eq!(outcome.error, None);
    // The server's list and text do not pass; the client's request, which a client would not send
    // then, fails.
    assert_eq!(kinds(&outcome, Direction::Down), [7, 1, 3, 4, 5]);
    assert_eq!(clipboard(&outcome, Direction::Down)[4], (5, 2, vec![]));
    // The gateway acknowledges the server's list, and so does the client, whose capture continues.
    assert_eq!(kinds(&outcome, Direction::Up), [7, 2, 5, 3, 3]);
    assert_eq!(clipboard(&outcome, Direction::Up)[3], (3, 1, vec![]));
    // Announced, requested and sent: only the last has a size.
    assert_eq!(refusals(&outcome, "clipboard", Direction::Down), Some((3, 24)));
    assert_eq!(refusals(&outcome, "clipboard", Direction::Up), None);
}

#[test]
fn outbound_only_the_users_formats_are_not_announced() {
    let outcome = play_in_pieces(with(Clipboard::Out, true), &xrdp());
    assert_eq!(outcome.error, None);
    let up = clipboard(&outcome, Direction::Up);
    assert_eq!(up.iter().map(|m| m.0).collect::<Vec<_>>(), [7, 2, 5, 3, 4]);
    assert_eq!(up[1], (2, 0, vec![]), "the first list ends the initialization, and names nothing");
    assert_eq!(
        up[2],
        (5, 2, vec![]),
        "the server's request is failed by us; the client's answer does not pass"
    );
    // The request for the client's content does not pass.
    assert_eq!(kinds(&outcome, Direction::Down), [7, 1, 3, 2, 5]);
    // The list, the request, and the response, which failed by itself.
    assert_eq!(refusals(&outcome, "clipboard", Direction::Up), Some((3, 0)));
}

#[test]
fn a_second_list_of_a_forbidden_direction_leaves_the_desktops_clipboard_alone() {
    let mut conversation = xrdp();
    let list =
        conversation.iter().position(|(w, p)| *w == Direction::Up && p.len() == 0x93).unwrap();
    conversation.push(conversation[list].clone());
    let outcome = play_in_pieces(with(Clipboard::Out, true), &conversation);
    assert_eq!(kinds(&outcome, Direction::Up).iter().filter(|kind| **kind == 2).count(), 1);
    assert_eq!(
        clipboard(&outcome, Direction::Down).last(),
        Some(&(3, 1, vec![])),
        "it is acknowledged all the same"
    );
}

#[test]
fn without_files_their_formats_are_removed_and_their_data_refused() {
    let outcome = play_in_pieces(with(Clipboard::Both, false), &xrdp());
    assert_eq!(outcome.error, None);
    let up = clipboard(&outcome, Direction::Up);
    let list = &up[1].2;
    let name = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let names = |text: &str| list.windows(name(text).len()).any(|w| w == name(text));
    assert!(names("HTML Format") && !names("FileGroupDescriptorW"));
    // The server requests it by its id all the same: the gateway answers with a failure, and the
    // client's own response, without content, passes.
    assert_eq!(up[2], (5, 2, vec![]));
    assert!(!kinds(&outcome, Direction::Down).contains(&4));
    // File capabilities are removed in both directions; both sides support long names.
    for way in [Direction::Up, Direction::Down] {
        let (_, _, set) =
            clipboard(&outcome, way).into_iter().find(|(kind, _, _)| *kind == 7).unwrap();
        assert_eq!(set[12..16], 2_u32.to_le_bytes());
    }
    assert_eq!(refusals(&outcome, "clipboard_files", Direction::Up), Some((2, 0)));
    assert_eq!(
        *kinds(&outcome, Direction::Down).last().unwrap(),
        5,
        "the desktop's text still passes"
    );
}

/// A clipboard message in chunks, as the sender of `way` sends it.
fn chunks(way: Direction, message: &[u8], size: usize) -> Vec<Pdu> {
    let count = message.chunks(size).len();
    let chunk = |(i, part): (usize, &[u8])| {
        let flags = u32::from(i == 0) | if i + 1 == count { 2 } else { 0 };
        let data =
            [&u32::try_from(message.len()).unwrap().to_le_bytes()[..], &flags.to_le_bytes(), part]
                .concat();
        let length = u16::try_from(data.len()).unwrap();
        let kind = if way == Direction::Up { 0x64 } else { 0x68 };
        let head = [
            &[3, 0][..],
            &(length + 15).to_be_bytes(),
            &[2, 0xf0, 0x80, kind, 0, 7, 3, 0xee, 0x70],
            &(0x8000 | length).to_be_bytes(),
        ];
        (way, [&head.concat(), &data[..]].concat())
    };
    message.chunks(size).enumerate().map(chunk).collect()
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    [
        &kind.to_le_bytes()[..],
        &flags.to_le_bytes(),
        &u32::try_from(body.len()).unwrap().to_le_bytes(),
        body,
    ]
    .concat()
}

/// IronRDP's client names its folder for files at every start: 520 bytes of UTF-16 (2.2.2.3).
#[test]
fn the_clients_folder_is_held_back_and_is_no_refusal() {
    let folder = message(6, 0, &[0; 520]);
    let pieces = chunks(Direction::Up, &folder, 1600);
    let conversation = [xrdp(), pieces.clone()].concat();
    for policy in [with(Clipboard::Both, false), with(Clipboard::Out, true)] {
        let before = play(policy, &xrdp(), 700);
        let outcome = play(policy, &conversation, 700);
        assert_eq!(outcome.error, None);
        assert_eq!(kinds(&outcome, Direction::Up), kinds(&before, Direction::Up), "{policy:?}");
        assert_eq!(outcome.refusals, before.refusals, "nobody transferred anything: {policy:?}");
    }
    let allowed = play(with(Clipboard::Both, true), &conversation, 700);
    assert_eq!(kinds(&allowed, Direction::Up).last(), Some(&6), "where files may pass it does");
}

#[test]
fn big_content_passes_in_its_chunks_or_not_at_all() {
    let content = message(5, 1, &vec![0x5a; 100_000]);
    for way in [Direction::Up, Direction::Down] {
        let pieces = chunks(way, &content, 1600);
        let conversation = [xrdp(), pieces.clone()].concat();
        let (allowed, forbidden) = match way {
            Direction::Up => (Clipboard::In, Clipboard::Out),
            Direction::Down => (Clipboard::Out, Clipboard::In),
        };
        let sent = |clipboard| {
            let mut outcome = play(with(clipboard, true), &conversation, 700);
            assert_eq!(outcome.error, None);
            let refused = refusals(&outcome, "clipboard", way);
            (std::mem::take(outcome.of(way)), refused)
        };
        assert!(sent(allowed).0.ends_with(&joined(&pieces, way)), "untouched");
        let (stream, refused) = sent(forbidden);
        assert!(!stream.windows(8).any(|w| w == [0x5a; 8]));
        assert!(refused.unwrap().1 >= 100_000, "its size is told");
    }
}

#[test]
fn replies_wait_for_a_message_boundary() {
    // The server is inside a message, and inside a PDU, when the client sends a forbidden request.
    let text = chunks(Direction::Down, &message(3, 1, &[0; 8]), 10);
    let request = chunks(Direction::Up, &message(4, 0, &13_u32.to_le_bytes()), 1600);
    let mut filter = Filter::new(with(Clipboard::In, true), edits());
    for (way, pdu) in xrdp() {
        filter.feed(way, &pdu.into(), &mut Vec::new()).unwrap();
        filter.flush_pending(way.opposite(), &mut Vec::new()).unwrap();
    }
    let mut down = Vec::new();
    let (head, tail) = text[1].1.split_at(40.min(text[1].1.len() - 1));
    for part in [&text[0].1[..], head] {
        let mut out = Vec::new();
        filter.feed(Direction::Down, &Bytes::copy_from_slice(part), &mut out).unwrap();
        down.extend(out.concat());
        let mut out = Vec::new();
        filter.feed(Direction::Up, &request[0].1.clone().into(), &mut out).unwrap();
        assert!(out.is_empty());
        assert!(!filter.has_pending(Direction::Down), "a message has passed in part");
        filter.flush_pending(Direction::Down, &mut out).unwrap();
        assert!(out.is_empty());
    }
    let mut out = Vec::new();
    filter.feed(Direction::Down, &Bytes::copy_from_slice(tail), &mut out).unwrap();
    down.extend(out.concat());
    let all = on_channel(&down, CLIPRDR);
    assert_eq!(all.len(), 4, "both chunks, then both answers");
    assert_eq!(all[2][8..12], [5, 0, 2, 0]);
    assert_eq!(all[2], all[3]);
}

#[test]
fn replies_are_inserted_into_a_stream_without_pauses() {
    let request = chunks(Direction::Up, &message(4, 0, &13_u32.to_le_bytes()), 1600).remove(0).1;
    let mut filter = Filter::new(with(Clipboard::In, true), edits());
    for (way, pdu) in xrdp() {
        filter.feed(way, &pdu.into(), &mut Vec::new()).unwrap();
        filter.flush_pending(way.opposite(), &mut Vec::new()).unwrap();
    }
    // Two pictures, split so that each chunk ends within one.
    let picture = [&[0x00, 0x80, 0x80][..], &[0x5a; 125]].concat();
    let stream = picture.repeat(2);
    let (first, second) = stream.split_at(64);
    let mut down = Vec::new();
    filter.feed(Direction::Down, &Bytes::copy_from_slice(first), &mut down).unwrap();
    filter.feed(Direction::Up, &request.into(), &mut Vec::new()).unwrap();
    assert!(!filter.has_pending(Direction::Down), "it would break into the picture");
    filter
        .feed(Direction::Down, &Bytes::copy_from_slice(&second[..second.len() - 16]), &mut down)
        .unwrap();
    let down = down.concat();
    assert_eq!(down[..128], picture);
    assert_eq!(
        (down[128], on_channel(&down[128..128 + 31], CLIPRDR).len()),
        (3, 1),
        "between the two"
    );
    assert_eq!(down[128 + 31..], picture[..112]);
}

#[test]
fn too_many_refused_requests_are_an_error() {
    let request = chunks(Direction::Up, &message(4, 0, &13_u32.to_le_bytes()), 1600).remove(0).1;
    let mut filter = Filter::new(with(Clipboard::In, true), edits());
    for (way, pdu) in xrdp() {
        filter.feed(way, &pdu.into(), &mut Vec::new()).unwrap();
    }
    let flood = (0..1000)
        .find_map(|_| filter.feed(Direction::Up, &request.clone().into(), &mut Vec::new()).err());
    assert_eq!(flood, Some(RdpError::TooManyPendingReplies), "when nobody takes the answers");
}

#[test]
fn the_number_of_replies_does_not_depend_on_chunks() {
    let request = chunks(Direction::Up, &message(4, 0, &13_u32.to_le_bytes()), 1600).remove(0).1;
    let set_up = || {
        let mut filter = Filter::new(with(Clipboard::In, true), edits());
        for (way, pdu) in xrdp() {
            filter.feed(way, &pdu.into(), &mut Vec::new()).unwrap();
            let back = way.opposite();
            if filter.has_pending(back) {
                filter.flush_pending(back, &mut Vec::new()).unwrap();
            }
        }
        filter
    };
    let mut filter = set_up();
    filter.feed(Direction::Up, &request.repeat(200).into(), &mut Vec::new()).unwrap();
    let mut down = Vec::new();
    filter.flush_pending(Direction::Down, &mut down).unwrap();
    assert_eq!(on_channel(&down.concat(), CLIPRDR).len(), 200);
    // Inside a picture no reply can be sent, and the number of pending ones is limited.
    for pieces in [1, 1000] {
        let mut filter = set_up();
        filter
            .feed(
                Direction::Down,
                &[&[0, 0x82, 0][..], &[0x5a; 64]].concat().into(),
                &mut Vec::new(),
            )
            .unwrap();
        let result = (0..pieces).find_map(|_| {
            filter.feed(Direction::Up, &request.repeat(1000 / pieces).into(), &mut Vec::new()).err()
        });
        assert!(result.is_some(), "in {pieces}");
    }
}

#[test]
fn files_pass_only_where_allowed() {
    // A request for the content of a file of the desktop: of stream 7, the first bytes.
    let request = message(8, 0, &[&7_u32.to_le_bytes()[..], &[0; 20]].concat());
    let lock = message(10, 0, &[1, 0, 0, 0]);
    let content = message(9, 1, &[7, 0, 0, 0, 0x5a, 0x5a, 0x5a, 0x5a]);
    let directory = message(6, 0, &[0x5a; 520]);
    let mut conversation = xrdp();
    for (way, message) in [
        (Direction::Up, &request),
        (Direction::Up, &lock),
        (Direction::Down, &content),
        (Direction::Up, &directory),
    ] {
        conversation.extend(chunks(way, message, 1600));
    }
    let all = play_in_pieces(with(Clipboard::Both, true), &conversation);
    assert!(
        kinds(&all, Direction::Up).ends_with(&[8, 10, 6])
            && kinds(&all, Direction::Down).ends_with(&[9])
    );
    let out = play_in_pieces(with(Clipboard::Out, true), &conversation);
    assert!(
        kinds(&out, Direction::Up).ends_with(&[8, 10])
            && kinds(&out, Direction::Down).ends_with(&[9])
    );
    for policy in [with(Clipboard::In, true), with(Clipboard::Both, false)] {
        let outcome = play_in_pieces(policy, &conversation);
        assert!(!kinds(&outcome, Direction::Up).iter().any(|k| [8, 10].contains(k)));
        assert_eq!(
            clipboard(&outcome, Direction::Down).last(),
            Some(&(9, 2, vec![7, 0, 0, 0])),
            "the client is told no"
        );
    }
}

#[test]
fn invalid_messages_do_not_pass() {
    let policy = with(Clipboard::In, true);
    let add = |pdus: Vec<Pdu>| play_in_pieces(policy, &[xrdp(), pdus].concat()).error;
    let up = |m: &[u8], size| add(chunks(Direction::Up, m, size));
    assert_eq!(
        up(&message(5, 1, &[0; 100]), 4),
        Some(RdpError::Malformed("clipboard message")),
        "a header in two chunks"
    );
    let mut invalid = message(5, 1, &[0; 100]);
    invalid[4] = 101;
    assert_eq!(up(&invalid, 1600), Some(RdpError::Malformed("clipboard message")));
    assert_eq!(
        up(&message(2, 0, &vec![0; 70_000]), 1600),
        Some(RdpError::TooLong { what: "channel message", length: 70_008, limit: 65_536 })
    );
    let mut unordered = chunks(Direction::Up, &message(5, 1, &[0; 4000]), 1600);
    unordered.remove(1);
    assert_eq!(add(unordered), Some(RdpError::Malformed("channel header")));
    assert_eq!(
        add(chunks(Direction::Up, &message(5, 1, &[0; 4000]), 1600).split_off(1)),
        Some(RdpError::Unexpected("channel chunk"))
    );
    // An unknown type does not pass, and a message without content must be short.
    let outcome = play_in_pieces(
        policy,
        &[
            xrdp(),
            chunks(Direction::Down, &message(99, 0, b"secret"), 1600),
            chunks(Direction::Down, &message(3, 1, &[0x5a; 100]), 1600),
        ]
        .concat(),
    );
    assert!(!kinds(&outcome, Direction::Down).contains(&99));
    assert!(!outcome.down.windows(8).any(|w| w == [0x5a; 8]));
}
