//! The RFB filter on generated streams and on a captured session.

use super::rfb_filter::{
    NO_CLIPBOARD, NO_OUT, PROVIDE, READ_ONLY, cut_text, down, down_in, extended, up, up_in,
};
use portcullis::protocol::rfb::filter::{Permissions, RefusedContent};
use portcullis::protocol::rfb::init::ServerInit;
use proptest::prelude::*;

// ---- generated streams ----

/// Random bytes that look like text and message types of every kind.
fn random_bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| [3, 0, 6, 255, 0, 1][n % 6]).collect()
}

fn compact(length: usize) -> Vec<u8> {
    let digit = |shift: u32| u8::try_from(length >> shift & 0x7f).unwrap();
    match length {
        0..0x80 => vec![digit(0)],
        0x80..0x4000 => vec![digit(0) | 0x80, digit(7)],
        _ => vec![digit(0) | 0x80, digit(7) | 0x80, u8::try_from(length >> 14).unwrap()],
    }
}

fn counted(length: usize) -> Vec<u8> {
    [&u32::try_from(length).unwrap().to_be_bytes()[..], &random_bytes(length)].concat()
}

/// Tight: a control byte, the bytes up to the data, and the data, of `unpacked` bytes before
/// compression.
fn tight(before: Vec<u8>, unpacked: usize, packed: usize) -> Vec<u8> {
    if unpacked < 12 {
        [before, random_bytes(unpacked)].concat()
    } else {
        [before, compact(packed), random_bytes(packed)].concat()
    }
}

fn hextile(width: usize, height: usize, masks: &[u8]) -> Vec<u8> {
    let mut masks = masks.iter().copied().cycle();
    let mut data = Vec::new();
    for y in (0..height).step_by(16) {
        for x in (0..width).step_by(16) {
            let size = (width - x).min(16) * (height - y).min(16);
            let mask = masks.next().unwrap() & 31;
            data.push(mask);
            if mask & 1 != 0 {
                data.extend(random_bytes(size * 4));
                continue;
            }
            data.extend(random_bytes((mask & 2) as usize * 2 + (mask & 4) as usize));
            if mask & 8 != 0 {
                data.push(mask);
                data.extend(random_bytes(usize::from(mask) * if mask & 16 != 0 { 6 } else { 2 }));
            }
        }
    }
    data
}

/// A rectangle in one of the encodings; `n` and `packed` vary its content.
fn rectangle(kind: u8, (width, height): (u16, u16), n: u8, packed: usize) -> Vec<u8> {
    let (w, h) = (usize::from(width), usize::from(height));
    let (area, rows) = (w * h, w.div_ceil(8) * h);
    let palette =
        |colours: u8| [vec![0x50, 1, colours - 1], random_bytes(usize::from(colours) * 3)].concat();
    let (encoding, data): (i32, Vec<u8>) = match kind {
        0 => (0, random_bytes(area * 4)),
        1 => (1, random_bytes(4)),
        2 => {
            (2, [&u32::from(n).to_be_bytes()[..], &random_bytes(4 + usize::from(n) * 12)].concat())
        }
        3 => (5, hextile(w, h, &[n, n / 2, 8, 3, 31, 1, 0])),
        4 => (6, counted(packed)),
        5 => (16, counted(packed)),
        6 => (
            50,
            [
                &u32::try_from(packed).unwrap().to_be_bytes()[..],
                &[0, 0, 0, 1],
                &random_bytes(packed),
            ]
            .concat(),
        ),
        7 => (7, random_bytes(4)).map_first(0x80),
        8 => (7, [vec![0x90], compact(packed), random_bytes(packed)].concat()),
        9 => (-260, [vec![0xa0], compact(packed), random_bytes(packed)].concat()),
        10 => (7, tight(vec![0x0f], area * 3, packed)),
        11 => (7, tight(vec![0x40, 0], area * 3, packed)),
        12 => (7, tight(vec![0x70, 2], area * 3, packed)),
        13 => (7, tight(palette(2), rows, packed)),
        14 => (7, tight(palette(n.max(3)), area, packed)),
        15 => (-239, random_bytes(area * 4 + rows)),
        16 => (-240, if area == 0 { vec![] } else { random_bytes(6 + 2 * rows) }),
        17 => (-223, vec![]),
        18 => (-308, [&[n % 4, 0, 0, 0][..], &random_bytes(usize::from(n % 4) * 16)].concat()),
        19 => (-307, counted(usize::from(n))),
        20 => (-261, random_bytes(1)),
        21 => (0x574d_5664, [&[0, 0][..], &random_bytes(area * 8)].concat()),
        22 => (0x574d_5664, [&[1, 0][..], &random_bytes(area * 4)].concat()),
        23 => (0x574d_5668, random_bytes(4)),
        _ => (-258, vec![]),
    };
    [&[0, 1, 0, 2], &width.to_be_bytes()[..], &height.to_be_bytes(), &encoding.to_be_bytes(), &data]
        .concat()
}

trait MapFirst {
    fn map_first(self, first: u8) -> Self;
}

impl MapFirst for (i32, Vec<u8>) {
    fn map_first(mut self, first: u8) -> Self {
        self.1[0] = first;
        self
    }
}

/// A message of the desktop, and whether it is clipboard text.
fn server_message() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let rect = (0_u8..25, (0_u16..50, 0_u16..40), any::<u8>(), 0_usize..20_000);
    let update =
        (proptest::collection::vec(rect, 0..6), any::<bool>()).prop_map(|(rects, open)| {
            let mut message = vec![0, 0];
            let count = if open { 0xffff } else { u16::try_from(rects.len()).unwrap() };
            message.extend_from_slice(&count.to_be_bytes());
            rects.iter().for_each(|(kind, size, n, packed)| {
                message.extend(rectangle(*kind, *size, *n, *packed))
            });
            if open {
                message.extend([&[0; 8][..], &(-224_i32).to_be_bytes()].concat());
            }
            (message, false)
        });
    let small = proptest::sample::select(vec![
        vec![2],
        vec![150],
        vec![250, 0, 1, 0],
        [&[248, 0, 0, 0, 0x80, 0, 0, 1, 5][..], b"fence"].concat(),
        [&[1, 0, 0, 0, 0, 2][..], &random_bytes(12)].concat(),
    ]);
    let text = (any::<bool>(), 0_usize..5000).prop_map(|(plain, length)| {
        let text = random_bytes(length);
        (if plain { cut_text(3, &text) } else { extended(3, PROVIDE, &text) }, true)
    });
    prop_oneof![3 => update, 2 => small.prop_map(|bytes| (bytes, false)), 2 => text]
}

fn cut(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> =
        cuts.iter().map(|c| c % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    at.windows(2).map(|w| bytes[w[0]..w[1]].to_vec()).collect()
}

proptest! {
    #[test]
    fn exactly_the_texts_are_removed_from_any_stream(
        messages in proptest::collection::vec(server_message(), 1..8),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let all: Vec<u8> = messages.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let kept: Vec<u8> = messages.iter().filter(|(_, text)| !text).flat_map(|(bytes, _)| bytes.clone()).collect();
        let pieces = cut(&all, &cuts);
        let (output, end) = down_in(NO_CLIPBOARD, pieces.iter().map(Vec::as_slice));
        prop_assert_eq!(end, Ok(true));
        prop_assert_eq!(output.refused.len(), messages.iter().filter(|(_, text)| *text).count());
        prop_assert!(output.passed == kept);
        let (output, end) = down_in(Permissions::ALL, pieces.iter().map(Vec::as_slice));
        prop_assert_eq!(end, Ok(true));
        prop_assert!(output.passed == all && output.refused.is_empty());
    }

    #[test]
    fn the_output_of_a_truncated_stream_is_a_prefix(
        messages in proptest::collection::vec(server_message(), 1..5),
        end in any::<usize>(),
    ) {
        let all: Vec<u8> = messages.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let (whole, _) = down_in(NO_CLIPBOARD, [&all[..]]);
        let (part, ended) = down_in(NO_CLIPBOARD, [&all[..end % (all.len() + 1)]]);
        prop_assert!(ended.is_ok());
        prop_assert!(whole.passed.starts_with(&part.passed));
    }

    #[test]
    fn any_input_has_the_same_result_however_it_is_split(bytes in proptest::collection::vec(any::<u8>(), 0..300), first in 0_u8..8, cuts in proptest::collection::vec(any::<usize>(), 0..6)) {
        let bytes = [&[first][..], &bytes].concat();
        let pieces = cut(&bytes, &cuts);
        for permissions in [NO_CLIPBOARD, NO_OUT, READ_ONLY] {
            prop_assert_eq!(down_in(permissions, [&bytes[..]]), down_in(permissions, pieces.iter().map(Vec::as_slice)));
            prop_assert_eq!(up_in(permissions, [&bytes[..]]), up_in(permissions, pieces.iter().map(Vec::as_slice)));
        }
    }
}

// ---- a captured session: noVNC 1.7 with Xtigervnc 1.12, a scrolling terminal, a copy on each
// side, keys, clicks, another size and quality ----

/// Output of noVNC after `ClientInit`.
const NOVNC_CAPTURE: &[u8] = include_bytes!("captured/novnc-1.7.bin");
/// Output of Xtigervnc from `ServerInit` on.
const TIGERVNC_CAPTURE: &[u8] = include_bytes!("captured/tigervnc-1.12.bin");

#[test]
fn a_captured_browser_stream_is_parsed() {
    let (output, end) = up(NO_CLIPBOARD, NOVNC_CAPTURE);
    // Its clipboard text was announced, requested, and sent.
    assert_eq!(
        (output.refused, end),
        (vec![(RefusedContent::Clipboard, 0), (RefusedContent::Clipboard, 43)], Ok(true))
    );
    let (output, end) = up(READ_ONLY, NOVNC_CAPTURE);
    assert_eq!(end, Ok(true));
    // Eight QEMU key messages, five pointer messages, one size, and the clipboard text.
    let lengths = |length: u64| {
        output.refused.iter().filter(|refused| **refused == (RefusedContent::Input, length)).count()
    };
    assert_eq!((lengths(12), lengths(6), lengths(24), output.refused.len()), (8, 5, 1, 16));
}

#[test]
fn a_captured_desktop_stream_is_parsed() {
    let init = ServerInit::parse(TIGERVNC_CAPTURE).unwrap().unwrap();
    let input = &TIGERVNC_CAPTURE[init.length..];
    let (whole, end) = down(Permissions::ALL, input);
    assert!(whole.passed == input && whole.refused.is_empty() && end == Ok(true), "{end:?}");
    let (output, end) = down(NO_OUT, input);
    assert_eq!(end, Ok(true));
    let text = (RefusedContent::Clipboard, 34);
    assert_eq!(
        output.refused,
        [(RefusedContent::Clipboard, 0), (RefusedContent::Clipboard, 0), text],
        "two announcements and a text"
    );
    assert_eq!(output.passed.len() + 2 * 12 + 12 + 34, input.len(), "and nothing else");
}
