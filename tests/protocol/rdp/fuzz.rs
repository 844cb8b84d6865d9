//! For any input: no panic, bounded memory, the same output however the input is split, and
//! forbidden content does not pass.

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

static CAPTURES: LazyLock<[Vec<Pdu>; 2]> = LazyLock::new(|| [xrdp(), shadow()]);

const CLOSED: Policy = Policy { clipboard: Clipboard::None, files: false, read_only: true };
const INWARD: Policy = Policy { clipboard: Clipboard::In, files: false, read_only: false };

fn policies() -> impl Strategy<Value = Policy> {
    let clipboard = proptest::sample::select(vec![
        Clipboard::None,
        Clipboard::In,
        Clipboard::Out,
        Clipboard::Both,
    ]);
    (clipboard, any::<bool>(), any::<bool>()).prop_map(|(clipboard, files, read_only)| Policy {
        clipboard,
        files,
        read_only,
    })
}

/// A conversation with some bytes changed, PDUs omitted, duplicated, or reordered.
fn mutated() -> impl Strategy<Value = Vec<Pdu>> {
    let byte = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>());
    let moves = (any::<prop::sample::Index>(), 0..4_u8);
    (0..2_usize, prop::collection::vec(byte, 0..6), prop::collection::vec(moves, 0..3)).prop_map(
        |(which, bytes, moves)| {
            let mut pdus = CAPTURES[which].clone();
            for (pdu, at, value) in bytes {
                let pdu = &mut pdus[pdu.index(CAPTURES[which].len())].1;
                // Decisions are made by the headers.
                let at = at.index(pdu.len().min(48));
                pdu[at] = value;
            }
            for (pdu, how) in moves {
                let at = pdu.index(pdus.len());
                match how {
                    0 => drop(pdus.remove(at)),
                    1 => pdus.insert(at, pdus[at].clone()),
                    2 => pdus[at].0 = pdus[at].0.opposite(),
                    _ => pdus.swap(at, 0),
                }
            }
            pdus
        },
    )
}

/// The output streams, however they end.
fn forbidden_bytes(outcome: &Outcome, channels: &[u16]) -> usize {
    let count = |stream: &[u8]| {
        let mut rest = stream;
        let mut found = 0;
        while let Ok(Measure::Known(frame)) = Framer::new().measure(rest) {
            let Some((pdu, behind)) = rest.split_at_checked(frame.length) else { break };
            if pdu[0] == 3
                && matches!(pdu[7] >> 2, 25 | 26)
                && channels.contains(&u16::from_be_bytes([pdu[10], pdu[11]]))
            {
                found += 1;
            }
            rest = behind;
        }
        found
    };
    count(&outcome.up) + count(&outcome.down)
}

#[test]
fn a_truncated_stream_waits_for_more() {
    for conversation in CAPTURES.iter() {
        for policy in [OPEN, CLOSED, INWARD] {
            let whole = play(policy, conversation, usize::MAX);
            for last in 0..conversation.len().min(80) {
                let (way, pdu) = &conversation[last];
                for length in
                    [0, 1, 2, 3, 7, 14, 15, 23, 31, 35, 36, 37, pdu.len() / 2, pdu.len() - 1]
                {
                    let cut = (*way, pdu[..length.min(pdu.len())].to_vec());
                    let outcome =
                        play(policy, &[&conversation[..last], &[cut]].concat(), usize::MAX);
                    assert_eq!(outcome.error, None, "PDU {last} at {length}");
                    assert!(
                        whole.up.starts_with(&outcome.up) && whole.down.starts_with(&outcome.down),
                        "PDU {last} at {length}"
                    );
                }
            }
        }
    }
}

#[test]
fn truncated_early_pdus_with_adjusted_lengths_are_errors() {
    let conversation = &CAPTURES[0];
    for last in [0, 1] {
        let (way, pdu) = &conversation[last];
        for length in 7..pdu.len() {
            let mut cut = pdu[..length].to_vec();
            cut[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            let outcome =
                play(CLOSED, &[&conversation[..last], &[(*way, cut)]].concat(), usize::MAX);
            assert!(outcome.error.is_some(), "PDU {last} at {length}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn random_input_has_the_same_result_however_it_is_split(bytes in prop::collection::vec(any::<u8>(), 0..300), skip in 0..20_usize, up in any::<bool>(), policy in policies()) {
        let way = if up { Direction::Up } else { Direction::Down };
        let conversation = [&CAPTURES[0][..skip], &[(way, bytes)]].concat();
        let whole = play(policy, &conversation, usize::MAX);
        let pieces = play(policy, &conversation, 1);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn mutated_conversations_have_the_same_result_however_they_are_split(conversation in mutated(), piece in 1..60_usize, policy in policies()) {
        let whole = play(policy, &conversation, usize::MAX);
        let pieces = play(policy, &conversation, piece);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn forbidden_content_never_passes(conversation in mutated()) {
        let mut filter = Filter::new(CLOSED, edits());
        let mut outcome = Outcome::default();
        for (way, pdu) in &conversation {
            let mut out = Vec::new();
            let result = filter.feed(*way, &Bytes::copy_from_slice(pdu), &mut out);
            outcome.of(*way).extend(out.concat());
            if result.is_err() {
                break;
            }
        }
        let dead: Vec<u16> = filter.channels().forbidden().filter_map(|channel| channel.id).collect();
        prop_assert_eq!(forbidden_bytes(&outcome, &dead), 0);
        let mut rest = &outcome.up[..];
        while let Ok(Measure::Known(frame)) = Framer::new().measure(rest) {
            let Some((pdu, behind)) = rest.split_at_checked(frame.length) else { break };
            prop_assert_eq!(pdu[0], 3, "no input");
            rest = behind;
        }
    }
}
