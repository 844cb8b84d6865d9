//! The early PDUs: the edits, and nothing else.

use super::*;
use portcullis::protocol::rdp::gcc;
use portcullis::protocol::rdp::x224::{self, NegotiationFailure};

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|w| w == part)
}

#[test]
fn the_negotiation_is_parsed() {
    for text in [include_str!("xrdp.txt"), include_str!("shadow.txt")] {
        let all = capture(text);
        assert_eq!(x224::parse_request(&all[0].1), Ok(x224::SSL));
        assert_eq!(x224::parse_confirm(&all[1].1, x224::SSL).unwrap().selected, x224::SSL);
    }
    // Response of FreeRDP's server to a TLS request when it requires NLA.
    let refusal = hex::decode("030000130ed000000000000300080005000000").unwrap();
    assert_eq!(
        x224::parse_confirm(&refusal, x224::SSL),
        Err(RdpError::Refused(NegotiationFailure::HybridRequired))
    );
}

#[test]
fn with_nothing_forbidden_all_but_two_pdus_pass_unchanged() {
    for conversation in [xrdp(), shadow()] {
        let outcome = play_in_pieces(OPEN, &conversation);
        assert_eq!(outcome.error, None);
        assert_eq!(outcome.refusals, []);
        assert_eq!(outcome.down, joined(&conversation, Direction::Down));
        let (sent, came) =
            (pdus(&joined(&conversation, Direction::Up)), outcome.pdus(Direction::Up));
        assert_eq!(sent.len(), came.len());
        let changed: Vec<usize> = (0..sent.len()).filter(|&i| sent[i] != came[i]).collect();
        let info = came.iter().position(|pdu| contains(pdu, &wide("geheim"))).unwrap();
        assert_eq!(changed, [0, info], "Connect-Initial and Client Info");
        assert_eq!(sent[0].len(), came[0].len());
    }
}

#[test]
fn the_core_settings_are_edited_in_place() {
    let conversation = xrdp();
    let sent = &conversation[0].1;
    let came = &play_in_pieces(OPEN, &conversation).pdus(Direction::Up)[0];
    let core = came.windows(4).position(|w| w == [0x01, 0xc0, 0xea, 0x00]).unwrap();
    let changed: Vec<usize> =
        (0..sent.len()).filter(|&i| sent[i] != came[i]).map(|i| i - core).collect();
    // Layout 0x409 to 0x407; the selected protocol 1 to 2. Depths and connection type are already
    // as required.
    assert_eq!(changed, [16, 212]);
    assert_eq!(came[core + 16..core + 20], 0x407_u32.to_le_bytes());
    assert_eq!(came[core + 140..core + 142], [24, 0]);
    assert_eq!(came[core + 142] & 0x0f, 0x0f);
    assert_eq!(came[core + 144] & 0x22, 0x22);
    assert_eq!((came[core + 210], came[core + 212]), (6, 2));
}

#[test]
fn a_length_that_ironrdp_gets_wrong_is_ignored() {
    let mut conversation = xrdp();
    let initial = &mut conversation[0].1;
    let at =
        initial.windows(7).position(|w| w == [0x00, 0x05, 0x00, 0x14, 0x7c, 0x00, 0x01]).unwrap()
            + 7;
    assert_eq!(initial[at..at + 2], [0x81, 0x58]);
    initial[at + 1] -= 2;
    assert_eq!(play_in_pieces(OPEN, &conversation).error, None);
}

#[test]
fn sixteen_bits_a_pixel_become_thirty_two() {
    let mut conversation = xrdp();
    let initial = &mut conversation[0].1;
    let core = initial.windows(4).position(|w| w == [0x01, 0xc0, 0xea, 0x00]).unwrap();
    // The browser component's request, without a connection type.
    for (at, bytes) in [(20, [70, 0]), (140, [16, 0]), (142, [2, 0]), (144, [1, 0]), (210, [0, 0])]
    {
        initial[core + at..core + at + 2].copy_from_slice(&bytes);
    }
    let came = &play_in_pieces(OPEN, &conversation).pdus(Direction::Up)[0];
    assert_eq!(came[core + 140..core + 146], [24, 0, 0x0f, 0, 0x23, 0]);
    assert_eq!(came[core + 210], 6);
    assert_eq!(
        came[core + 20..core + 24],
        2600_u32.to_le_bytes(),
        "a client whose desktop can change its size"
    );
}

#[test]
fn the_clients_logon_data_never_reaches_the_server() {
    for (conversation, user, password) in
        [(xrdp(), "rdpcap", "Cap-Pass-1"), (shadow(), "nlauser", "Nla-Pass-1")]
    {
        assert!(contains(&joined(&conversation, Direction::Up), &wide(password)));
        for policy in [OPEN, Policy { files: false, ..OPEN }] {
            let up = play(policy, &conversation, usize::MAX).up;
            assert!(!contains(&up, &wide(user)) && !contains(&up, &wide(password)));
            let both =
                [wide("CORP"), vec![0, 0], wide("jürgen"), vec![0, 0], wide("geheim"), vec![0; 6]]
                    .concat();
            assert!(contains(&up, &both), "domain, user, password, no shell, no folder");
        }
    }
}

#[test]
fn a_japanese_layout_has_a_japanese_keyboard() {
    let mut initial = xrdp()[0].1.clone();
    let edits = CoreEdits { selected: 1, keyboard_layout: Some(0x411) };
    gcc::edit_initial(&mut initial, edits, OPEN).unwrap();
    let core = initial.windows(4).position(|w| w == [0x01, 0xc0, 0xea, 0x00]).unwrap();
    assert_eq!(initial[core + 16..core + 20], 0x411_u32.to_le_bytes());
    assert_eq!(initial[core + 56..core + 64], [7, 0, 0, 0, 2, 0, 0, 0], "type 7, subtype 2");
}

#[test]
fn without_a_credential_the_desktop_shows_its_login() {
    let mut filter = Filter::new(
        OPEN,
        Edits { core: CoreEdits { selected: 1, keyboard_layout: None }, credential: None },
    );
    let mut up = Vec::new();
    for (way, pdu) in xrdp() {
        let mut out = Vec::new();
        filter.feed(way, &pdu.into(), &mut out).unwrap();
        if way == Direction::Up {
            up.extend(out.concat());
        }
    }
    assert!(!contains(&up, &wide("rdpcap")) && !contains(&up, &wide("Cap-Pass-1")));
}

#[test]
fn after_setup_an_unrestricted_filter_passes_everything_upward() {
    let mut filter = Filter::new(OPEN, edits());
    for (way, pdu) in xrdp() {
        assert_eq!(filter.is_pass_through(Direction::Up), filter.is_set_up());
        filter.feed(way, &pdu.into(), &mut Vec::new()).unwrap();
    }
    assert!(filter.is_pass_through(Direction::Up));
    let chunk = Bytes::from_static(b"not looked at");
    let mut out = Vec::new();
    filter.feed(Direction::Up, &chunk, &mut out).unwrap();
    assert_eq!(out[0].as_ptr(), chunk.as_ptr(), "and not copied");
}

#[test]
fn forwarded_bytes_are_not_copied() {
    let mut filter = Filter::new(Policy { clipboard: Clipboard::In, ..OPEN }, edits());
    let mut pictures = Vec::new();
    for (way, pdu) in xrdp() {
        if way == Direction::Down && pdu[0] == 0 {
            pictures.extend_from_slice(&pdu);
        }
        filter.feed(way, &pdu.into(), &mut Vec::new()).unwrap();
    }
    let chunk = Bytes::from(pictures);
    let mut out = Vec::new();
    filter.feed(Direction::Down, &chunk, &mut out).unwrap();
    assert_eq!(out.len(), 1, "one slice for many PDUs");
    assert_eq!((out[0].as_ptr(), out[0].len()), (chunk.as_ptr(), chunk.len()));
}

#[test]
fn pdus_out_of_order_are_refused() {
    let conversation = xrdp();
    let input: Pdu = (Direction::Up, vec![0x04, 0x05, 0x00, 0x1e, 0x00]);
    let picture: Pdu = (Direction::Down, vec![0x00, 0x05, 0x83, 0x00, 0x00]);
    let wrong = |pdus: &[Pdu]| play_in_pieces(OPEN, pdus).error.unwrap();
    assert_eq!(wrong(&[input]), RdpError::Unexpected("input"));
    assert_eq!(wrong(&[picture]), RdpError::Unexpected("picture"));
    assert_eq!(wrong(&conversation[1..]), RdpError::Unexpected("MCS Connect-Response"));
    assert_eq!(
        wrong(&[conversation[0].clone(), conversation[0].clone()]),
        RdpError::Unexpected("MCS Connect-Initial")
    );
    let after = [&conversation[..2], &conversation[..1]].concat();
    assert_eq!(wrong(&after), RdpError::Unexpected("MCS Connect-Initial"));
    // Clipboard data before the Client Info PDU.
    let clipboard =
        conversation.iter().find(|(w, p)| *w == Direction::Up && p.len() == 0x93).unwrap().clone();
    assert_eq!(
        wrong(&[&conversation[..2], &[clipboard]].concat()),
        RdpError::Unexpected("data before Client Info")
    );
    assert_eq!(
        wrong(&[(Direction::Up, b"GET / HTTP/1.1".to_vec())]),
        RdpError::NotRdp { first: b'G' }
    );
}

#[test]
fn an_error_is_reported_with_its_last_byte() {
    // A fast-path PDU that is shorter than its own header: its length is its second byte.
    let mut filter = Filter::new(OPEN, edits());
    assert_eq!(filter.feed(Direction::Down, &Bytes::from_static(&[0xac]), &mut Vec::new()), Ok(()));
    assert_eq!(
        filter.feed(Direction::Down, &Bytes::from_static(&[0]), &mut Vec::new()),
        Err(RdpError::Malformed("fast-path header"))
    );
}

#[test]
fn after_an_error_nothing_passes() {
    let mut filter = Filter::new(OPEN, edits());
    assert!(filter.feed(Direction::Up, &Bytes::from_static(b"GET"), &mut Vec::new()).is_err());
    for way in [Direction::Up, Direction::Down] {
        let mut out = Vec::new();
        assert_eq!(
            filter.feed(way, &xrdp()[0].1.clone().into(), &mut out),
            Err(RdpError::AlreadyFailed)
        );
        assert!(out.is_empty() && !filter.has_pending(way), "nothing is owed either");
        assert_eq!((filter.flush_pending(way, &mut out), out.len()), (Ok(()), 0));
    }
}

#[test]
fn encryption_inside_tls_is_refused() {
    let mut conversation = xrdp();
    let response = &mut conversation[1].1;
    let at = response.windows(4).position(|w| w == [0x02, 0x0c, 0x0c, 0x00]).unwrap();
    response[at + 4] = 2;
    assert_eq!(play_in_pieces(OPEN, &conversation).error, Some(RdpError::Encrypted));
    let mut conversation = shadow();
    let input = conversation.iter_mut().find(|(w, p)| *w == Direction::Up && p[0] == 4).unwrap();
    input.1[0] |= 0x80;
    assert_eq!(
        play_in_pieces(Policy { files: false, ..OPEN }, &conversation).error,
        Some(RdpError::Encrypted)
    );
}
