//! The RFB filter: whole input, byte by byte, truncated, random; and streams with false lengths.

use super::rfb_init::{FORMAT, server_init};
use bytes::Bytes;
use portcullis::protocol::rfb::filter::down::DownFilter;
use portcullis::protocol::rfb::filter::up::UpFilter;
use portcullis::protocol::rfb::filter::{
    FilterError, FilterSink, MAX_CUT_TEXT, Permissions, RefusedContent, SharedPixelFormat,
};
use portcullis::protocol::rfb::init::ServerInit;
use proptest::prelude::*;

const NO_CLIPBOARD: Permissions =
    Permissions { clipboard_in: false, clipboard_out: false, input: true };
const NO_OUT: Permissions = Permissions { clipboard_out: false, ..Permissions::ALL };
const NO_IN: Permissions = Permissions { clipboard_in: false, ..Permissions::ALL };
const READ_ONLY: Permissions =
    Permissions { clipboard_in: false, clipboard_out: true, input: false };

/// Output of a filter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct CollectedOutput {
    passed: Vec<u8>,
    held: Vec<(RefusedContent, u64)>,
}

impl FilterSink for CollectedOutput {
    fn pass(&mut self, piece: Bytes) {
        assert!(!piece.is_empty());
        self.passed.extend_from_slice(&piece);
    }
    fn refuse(&mut self, held: RefusedContent, bytes: u64) {
        self.held.push((held, bytes));
    }
}

fn format() -> SharedPixelFormat {
    SharedPixelFormat::new(ServerInit::parse(&server_init(64, 64, b"")).unwrap().unwrap().format)
}

type Outcome = (CollectedOutput, Result<bool, FilterError>);

fn up_in<'a>(rules: Permissions, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut filter, mut out) = (UpFilter::new(rules, format()), CollectedOutput::default());
    let fed = pieces
        .into_iter()
        .try_for_each(|piece| filter.feed(&Bytes::copy_from_slice(piece), &mut out));
    (out, fed.map(|()| filter.at_message_boundary()))
}

fn down_in<'a>(rules: Permissions, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut filter, mut out) = (DownFilter::new(rules, format()), CollectedOutput::default());
    let fed = pieces
        .into_iter()
        .try_for_each(|piece| filter.feed(&Bytes::copy_from_slice(piece), &mut out));
    (out, fed.map(|()| filter.at_message_boundary()))
}

fn up(rules: Permissions, bytes: &[u8]) -> Outcome {
    let whole = up_in(rules, [bytes]);
    assert_eq!(whole, up_in(rules, bytes.chunks(1)), "however it arrives");
    whole
}

fn down(rules: Permissions, bytes: &[u8]) -> Outcome {
    let whole = down_in(rules, [bytes]);
    assert_eq!(whole, down_in(rules, bytes.chunks(1)), "however it arrives");
    whole
}

fn cut_text(kind: u8, text: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0], &u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

/// An extended clipboard message.
fn extended(kind: u8, flags: u32, body: &[u8]) -> Vec<u8> {
    let length = -i32::try_from(4 + body.len()).unwrap();
    [&[kind, 0, 0, 0], &length.to_be_bytes()[..], &flags.to_be_bytes(), body].concat()
}

const CAPS: u32 = 0x1f00_0001;
const REQUEST: u32 = 0x0200_0001;
const NOTIFY: u32 = 0x0800_0001;
const PROVIDE: u32 = 0x1000_0001;

fn encodings(list: &[i32]) -> Vec<u8> {
    let mut message = vec![2, 0];
    message.extend_from_slice(&u16::try_from(list.len()).unwrap().to_be_bytes());
    list.iter().for_each(|encoding| message.extend_from_slice(&encoding.to_be_bytes()));
    message
}

/// Encodings that noVNC 1.7 requests.
const NOVNC: [i32; 25] = [
    1,
    50,
    7,
    -260,
    16,
    21,
    5,
    2,
    6,
    0,
    -26,
    -254,
    -223,
    -224,
    -258,
    -261,
    -308,
    -309,
    -312,
    -313,
    -307,
    -1_063_131_698,
    -316,
    0x574d_5664,
    -239,
];

fn update_request() -> Vec<u8> {
    vec![3, 1, 0, 0, 0, 0, 4, 0, 3, 0]
}

/// Messages of noVNC 1.7 without clipboard and input, as in its source.
fn novnc_begins() -> Vec<u8> {
    let pixel_format =
        [&[0; 4][..], &[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0]].concat();
    let fence = [&[248, 0, 0, 0, 0, 0, 0, 1, 3][..], b"abc"].concat();
    let continuous = vec![150, 1, 0, 0, 0, 0, 4, 0, 3, 0];
    [pixel_format, encodings(&NOVNC), update_request(), fence, continuous].concat()
}

/// Each kind of input message.
fn inputs() -> Vec<Vec<u8>> {
    let size = [&[251, 0, 4, 0, 3, 0, 1, 0][..], &[7; 16]].concat();
    vec![
        vec![4, 1, 0, 0, 0, 0, 0, 0x61],
        vec![5, 1, 0, 10, 0, 20],
        vec![255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 30],
        vec![250, 0, 1, 2],
        size,
    ]
}

#[test]
fn what_is_allowed_passes_unchanged() {
    let kept: Vec<i32> = NOVNC.into_iter().filter(|e| *e != -316).collect();
    let mut said = novnc_begins();
    said.extend(inputs().concat());
    said.extend(extended(6, CAPS, &[0; 4]));
    let mut expected = said.clone();
    expected.splice(20..20 + 4 + 100, encodings(&kept));
    assert_eq!(up(NO_IN, &said), (CollectedOutput { passed: expected, held: vec![] }, Ok(true)));
}

#[test]
fn where_outbound_text_is_forbidden_only_measurable_encodings_are_requested() {
    // Not JPEG, whose length only its decoder finds; not the extension for more buttons; not
    // unknown ones.
    let asked = [&NOVNC[..], &[-305, -259, 15, 8, 12_345, -2_000_000]].concat();
    let kept = |rules| {
        let (sifted, end) = up(rules, &encodings(&asked));
        assert_eq!(end, Ok(true));
        let list: Vec<i32> = sifted.passed[4..]
            .chunks_exact(4)
            .map(|e| i32::from_be_bytes(e.try_into().unwrap()))
            .collect();
        assert_eq!(sifted.passed[..4], encodings(&list)[..4], "the count is right");
        list
    };
    let gone =
        |list: Vec<i32>| asked.iter().copied().filter(|e| !list.contains(e)).collect::<Vec<i32>>();
    assert_eq!(gone(kept(NO_OUT)), [21, -316, -305, -259, 15, 8, 12_345, -2_000_000]);
    assert_eq!(
        gone(kept(NO_CLIPBOARD)),
        [21, -1_063_131_698, -316, -305, -259, 15, 8, 12_345, -2_000_000]
    );
    assert_eq!(gone(kept(NO_IN)), [-316, -305, -259]);
}

#[test]
fn text_into_the_desktop_is_refused() {
    let texts = [
        cut_text(6, b"secret"),
        extended(6, NOTIFY, b""),
        extended(6, PROVIDE, b"compressed"),
        extended(6, CAPS, &[0; 4]),
    ];
    let said = [&update_request()[..], &texts.concat(), &inputs()[0]].concat();
    let passed = [&update_request()[..], &extended(6, CAPS, &[0; 4]), &inputs()[0]].concat();
    let held = vec![
        (RefusedContent::Clipboard, 6),
        (RefusedContent::Clipboard, 0),
        (RefusedContent::Clipboard, 10),
    ];
    assert_eq!(up(NO_IN, &said), (CollectedOutput { passed, held }, Ok(true)));
    // The other direction: a request for the desktop's text passes, the response does not.
    let said =
        [extended(6, REQUEST, b""), cut_text(6, b"mine"), extended(6, PROVIDE, b"mine")].concat();
    let passed = [cut_text(6, b"mine"), extended(6, PROVIDE, b"mine")].concat();
    assert_eq!(up(NO_OUT, &said), (CollectedOutput { passed, held: vec![] }, Ok(true)));
}

#[test]
fn text_out_of_the_desktop_is_refused() {
    let texts = [
        cut_text(3, b"salary"),
        extended(3, NOTIFY, b""),
        extended(3, PROVIDE, b"compressed"),
        extended(3, REQUEST, b""),
    ];
    let around = [0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4];
    let said = [&around[..], &texts.concat(), &[2], &around].concat();
    let held = vec![
        (RefusedContent::Clipboard, 6),
        (RefusedContent::Clipboard, 0),
        (RefusedContent::Clipboard, 10),
    ];
    let passed = [&around[..], &extended(3, REQUEST, b""), &[2], &around].concat();
    assert_eq!(down(NO_OUT, &said), (CollectedOutput { passed, held: held.clone() }, Ok(true)));
    let passed = [&around[..], &[2], &around].concat();
    assert_eq!(down(NO_CLIPBOARD, &said), (CollectedOutput { passed, held }, Ok(true)));
}

#[test]
fn read_only_means_that_nothing_acts_on_the_desktop() {
    let said = [novnc_begins(), inputs().concat(), cut_text(6, b"text"), update_request()].concat();
    let (sifted, end) = up(READ_ONLY, &said);
    assert_eq!(end, Ok(true));
    let held: Vec<(RefusedContent, u64)> =
        inputs().iter().map(|input| (RefusedContent::Input, input.len() as u64)).collect();
    assert_eq!(sifted.held, [held, vec![(RefusedContent::Clipboard, 4)]].concat());
    assert!(sifted.passed.ends_with(&update_request()));
    assert_eq!(
        sifted.passed.len(),
        novnc_begins().len() - 4 + update_request().len(),
        "only more buttons are not asked for"
    );
}

#[test]
fn unknown_messages_end_the_stream() {
    for kind in [1_u8, 7, 8, 9, 100, 149, 151, 249, 252, 253, 254] {
        assert!(
            matches!(up(NO_IN, &[kind; 64]), (CollectedOutput { passed, .. }, Err(FilterError::Forbidden(_))) if passed.is_empty()),
            "{kind}"
        );
    }
    assert!(
        matches!(up(NO_IN, &[255, 1, 0, 0]).1, Err(FilterError::Forbidden(_))),
        "sound is another channel"
    );
    for kind in [4_u8, 5, 6, 149, 151, 249, 252, 253, 254, 255] {
        assert!(matches!(down(NO_OUT, &[kind; 64]).1, Err(FilterError::Forbidden(_))), "{kind}");
    }
    let jpeg =
        [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0, 8][..], &21_i32.to_be_bytes(), &[0xff; 64]].concat();
    assert!(
        matches!(down(NO_OUT, &jpeg).1, Err(FilterError::Forbidden(_))),
        "it was not asked for"
    );
}

#[test]
fn another_pixel_format_in_mid_stream_ends_it_where_rectangles_are_measured() {
    let format = [&[0; 4][..], &FORMAT].concat();
    let said = [&format[..], &format, &update_request(), &format].concat();
    assert!(matches!(up(NO_OUT, &said).1, Err(FilterError::Forbidden(_))));
    assert_eq!(up(NO_IN, &said).1, Ok(true));
    let impossible = [&[0; 4][..], &[24], &FORMAT[1..]].concat();
    assert!(matches!(up(NO_IN, &impossible).1, Err(FilterError::Malformed(_))));
}

#[test]
fn false_lengths_are_refused() {
    let too_long =
        |kind: u8, length: u32| [&[kind, 0, 0, 0][..], &length.to_be_bytes(), &[0; 8]].concat();
    for length in [
        MAX_CUT_TEXT + 1,
        i32::MAX.cast_unsigned(),
        i32::MIN.cast_unsigned(),
        (-3_i32).cast_unsigned(),
        (-1_i32).cast_unsigned(),
    ] {
        for rules in [NO_IN, NO_OUT, NO_CLIPBOARD] {
            assert!(
                matches!(up(rules, &too_long(6, length)).1, Err(FilterError::Malformed(_))),
                "{length:x}"
            );
            assert!(
                matches!(down(rules, &too_long(3, length)).1, Err(FilterError::Malformed(_))),
                "{length:x}"
            );
        }
    }
    assert!(
        matches!(up(NO_IN, &[2, 0, 0xff, 0xff, 0, 0]).1, Err(FilterError::Malformed(_))),
        "so many encodings has nobody"
    );
    // Text in a message without text, or with two actions at once.
    for message in [
        extended(6, NOTIFY, b"text"),
        extended(6, REQUEST, b"text"),
        extended(6, CAPS, &[b'x'; 65]),
        extended(6, PROVIDE | NOTIFY, b"x"),
    ] {
        assert!(matches!(up(NO_IN, &message).1, Err(FilterError::Malformed(_))), "{message:x?}");
    }
    let rect = |width: u16, height: u16, encoding: i32, data: &[u8]| {
        let head = [
            &[0, 0, 0, 1, 0, 0, 0, 0],
            &width.to_be_bytes()[..],
            &height.to_be_bytes(),
            &encoding.to_be_bytes(),
        ]
        .concat();
        down(NO_OUT, &[&head, data].concat()).1
    };
    for encoding in [0, 5, -223, -308] {
        assert!(
            matches!(
                rect(60_000, 60_000, encoding, &[]),
                Err(FilterError::Malformed("a rectangle is too large"))
            ),
            "{encoding}"
        );
    }
    for (encoding, data) in [
        (6, &[0xff; 4][..]),
        (16, &[0x7f, 0, 0, 0]),
        (50, &[0xff; 8]),
        (2, &[0xff; 4]),
        (-307, &[0xff; 4]),
        (7, &[0, 0xff, 0xff, 0xff]),
    ] {
        assert!(matches!(rect(8, 8, encoding, data), Err(FilterError::Malformed(_))), "{encoding}");
    }
    assert!(matches!(rect(8, 8, 7, &[0xb0]), Err(FilterError::Malformed(_))), "a Tight of no kind");
    assert!(
        matches!(rect(8, 8, 7, &[0x40, 3]), Err(FilterError::Malformed(_))),
        "a filter of no kind"
    );
    assert!(
        matches!(rect(8, 8, 0x574d_5664, &[2, 0]), Err(FilterError::Malformed(_))),
        "a cursor of no kind"
    );
}

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
        let (sifted, end) = down_in(NO_CLIPBOARD, pieces.iter().map(Vec::as_slice));
        prop_assert_eq!(end, Ok(true));
        prop_assert_eq!(sifted.held.len(), messages.iter().filter(|(_, text)| *text).count());
        prop_assert!(sifted.passed == kept);
        let (sifted, end) = down_in(Permissions::ALL, pieces.iter().map(Vec::as_slice));
        prop_assert_eq!(end, Ok(true));
        prop_assert!(sifted.passed == all && sifted.held.is_empty());
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
        for rules in [NO_CLIPBOARD, NO_OUT, READ_ONLY] {
            prop_assert_eq!(down_in(rules, [&bytes[..]]), down_in(rules, pieces.iter().map(Vec::as_slice)));
            prop_assert_eq!(up_in(rules, [&bytes[..]]), up_in(rules, pieces.iter().map(Vec::as_slice)));
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
    let (sifted, end) = up(NO_CLIPBOARD, NOVNC_CAPTURE);
    // Its clipboard text was announced, requested, and sent.
    assert_eq!(
        (sifted.held, end),
        (vec![(RefusedContent::Clipboard, 0), (RefusedContent::Clipboard, 43)], Ok(true))
    );
    let (sifted, end) = up(READ_ONLY, NOVNC_CAPTURE);
    assert_eq!(end, Ok(true));
    // Eight QEMU key messages, five pointer messages, one size, and the clipboard text.
    let lengths = |length: u64| {
        sifted.held.iter().filter(|held| **held == (RefusedContent::Input, length)).count()
    };
    assert_eq!((lengths(12), lengths(6), lengths(24), sifted.held.len()), (8, 5, 1, 16));
}

#[test]
fn a_captured_desktop_stream_is_parsed() {
    let init = ServerInit::parse(TIGERVNC_CAPTURE).unwrap().unwrap();
    let said = &TIGERVNC_CAPTURE[init.length..];
    let (whole, end) = down(Permissions::ALL, said);
    assert!(whole.passed == said && whole.held.is_empty() && end == Ok(true), "{end:?}");
    let (sifted, end) = down(NO_OUT, said);
    assert_eq!(end, Ok(true));
    let text = (RefusedContent::Clipboard, 34);
    assert_eq!(
        sifted.held,
        [(RefusedContent::Clipboard, 0), (RefusedContent::Clipboard, 0), text],
        "two announcements and a text"
    );
    assert_eq!(sifted.passed.len() + 2 * 12 + 12 + 34, said.len(), "and nothing else");
}
