//! The RFB filter: whole input, byte by byte, truncated, random; and streams with false lengths.

use super::rfb_init::{FORMAT, server_init};
use bytes::Bytes;
use portcullis::protocol::rfb::filter::down::DownFilter;
use portcullis::protocol::rfb::filter::up::UpFilter;
use portcullis::protocol::rfb::filter::{
    FilterError, FilterSink, MAX_CUT_TEXT, Permissions, RefusedContent, SharedPixelFormat,
};
use portcullis::protocol::rfb::init::ServerInit;

pub(super) const NO_CLIPBOARD: Permissions =
    Permissions { clipboard_in: false, clipboard_out: false, input: true };
pub(super) const NO_OUT: Permissions = Permissions { clipboard_out: false, ..Permissions::ALL };
const NO_IN: Permissions = Permissions { clipboard_in: false, ..Permissions::ALL };
pub(super) const READ_ONLY: Permissions =
    Permissions { clipboard_in: false, clipboard_out: true, input: false };

/// Output of a filter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct CollectedOutput {
    pub(super) passed: Vec<u8>,
    pub(super) refused: Vec<(RefusedContent, u64)>,
}

impl FilterSink for CollectedOutput {
    fn pass(&mut self, piece: Bytes) {
        assert!(!piece.is_empty());
        self.passed.extend_from_slice(&piece);
    }
    fn refuse(&mut self, refused: RefusedContent, bytes: u64) {
        self.refused.push((refused, bytes));
    }
}

fn format() -> SharedPixelFormat {
    SharedPixelFormat::new(ServerInit::parse(&server_init(64, 64, b"")).unwrap().unwrap().format)
}

type Outcome = (CollectedOutput, Result<bool, FilterError>);

pub(super) fn up_in<'a>(
    permissions: Permissions,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let (mut filter, mut out) = (UpFilter::new(permissions, format()), CollectedOutput::default());
    let result = pieces
        .into_iter()
        .try_for_each(|piece| filter.feed(&Bytes::copy_from_slice(piece), &mut out));
    (out, result.map(|()| filter.at_message_boundary()))
}

pub(super) fn down_in<'a>(
    permissions: Permissions,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let (mut filter, mut out) =
        (DownFilter::new(permissions, format()), CollectedOutput::default());
    let result = pieces
        .into_iter()
        .try_for_each(|piece| filter.feed(&Bytes::copy_from_slice(piece), &mut out));
    (out, result.map(|()| filter.at_message_boundary()))
}

pub(super) fn up(permissions: Permissions, bytes: &[u8]) -> Outcome {
    let whole = up_in(permissions, [bytes]);
    assert_eq!(whole, up_in(permissions, bytes.chunks(1)), "however it arrives");
    whole
}

pub(super) fn down(permissions: Permissions, bytes: &[u8]) -> Outcome {
    let whole = down_in(permissions, [bytes]);
    assert_eq!(whole, down_in(permissions, bytes.chunks(1)), "however it arrives");
    whole
}

pub(super) fn cut_text(kind: u8, text: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0], &u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

/// An extended clipboard message.
pub(super) fn extended(kind: u8, flags: u32, body: &[u8]) -> Vec<u8> {
    let length = -i32::try_from(4 + body.len()).unwrap();
    [&[kind, 0, 0, 0], &length.to_be_bytes()[..], &flags.to_be_bytes(), body].concat()
}

const CAPS: u32 = 0x1f00_0001;
const REQUEST: u32 = 0x0200_0001;
const NOTIFY: u32 = 0x0800_0001;
pub(super) const PROVIDE: u32 = 0x1000_0001;

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
    let mut input = novnc_begins();
    input.extend(inputs().concat());
    input.extend(extended(6, CAPS, &[0; 4]));
    let mut expected = input.clone();
    expected.splice(20..20 + 4 + 100, encodings(&kept));
    assert_eq!(
        up(NO_IN, &input),
        (CollectedOutput { passed: expected, refused: vec![] }, Ok(true))
    );
}

#[test]
fn where_outbound_text_is_forbidden_only_measurable_encodings_are_requested() {
    // Not JPEG, whose length only its decoder finds; not the extension for more buttons; not
    // unknown ones.
    let requested = [&NOVNC[..], &[-305, -259, 15, 8, 12_345, -2_000_000]].concat();
    let kept = |permissions| {
        let (output, end) = up(permissions, &encodings(&requested));
        assert_eq!(end, Ok(true));
        let list: Vec<i32> = output.passed[4..]
            .chunks_exact(4)
            .map(|e| i32::from_be_bytes(e.try_into().unwrap()))
            .collect();
        assert_eq!(output.passed[..4], encodings(&list)[..4], "the count is right");
        list
    };
    let gone = |list: Vec<i32>| {
        requested.iter().copied().filter(|e| !list.contains(e)).collect::<Vec<i32>>()
    };
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
    let input = [&update_request()[..], &texts.concat(), &inputs()[0]].concat();
    let passed = [&update_request()[..], &extended(6, CAPS, &[0; 4]), &inputs()[0]].concat();
    let refused = vec![
        (RefusedContent::Clipboard, 6),
        (RefusedContent::Clipboard, 0),
        (RefusedContent::Clipboard, 10),
    ];
    assert_eq!(up(NO_IN, &input), (CollectedOutput { passed, refused }, Ok(true)));
    // The other direction: a request for the desktop's text passes, the response does not.
    let input =
        [extended(6, REQUEST, b""), cut_text(6, b"mine"), extended(6, PROVIDE, b"mine")].concat();
    let passed = [cut_text(6, b"mine"), extended(6, PROVIDE, b"mine")].concat();
    assert_eq!(up(NO_OUT, &input), (CollectedOutput { passed, refused: vec![] }, Ok(true)));
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
    let input = [&around[..], &texts.concat(), &[2], &around].concat();
    let refused = vec![
        (RefusedContent::Clipboard, 6),
        (RefusedContent::Clipboard, 0),
        (RefusedContent::Clipboard, 10),
    ];
    let passed = [&around[..], &extended(3, REQUEST, b""), &[2], &around].concat();
    assert_eq!(
        down(NO_OUT, &input),
        (CollectedOutput { passed, refused: refused.clone() }, Ok(true))
    );
    let passed = [&around[..], &[2], &around].concat();
    assert_eq!(down(NO_CLIPBOARD, &input), (CollectedOutput { passed, refused }, Ok(true)));
}

#[test]
fn read_only_means_that_nothing_acts_on_the_desktop() {
    let input =
        [novnc_begins(), inputs().concat(), cut_text(6, b"text"), update_request()].concat();
    let (output, end) = up(READ_ONLY, &input);
    assert_eq!(end, Ok(true));
    let refused: Vec<(RefusedContent, u64)> =
        inputs().iter().map(|input| (RefusedContent::Input, input.len() as u64)).collect();
    assert_eq!(output.refused, [refused, vec![(RefusedContent::Clipboard, 4)]].concat());
    assert!(output.passed.ends_with(&update_request()));
    assert_eq!(
        output.passed.len(),
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
    let input = [&format[..], &format, &update_request(), &format].concat();
    assert!(matches!(up(NO_OUT, &input).1, Err(FilterError::Forbidden(_))));
    assert_eq!(up(NO_IN, &input).1, Ok(true));
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
        for permissions in [NO_IN, NO_OUT, NO_CLIPBOARD] {
            assert!(
                matches!(up(permissions, &too_long(6, length)).1, Err(FilterError::Malformed(_))),
                "{length:x}"
            );
            assert!(
                matches!(down(permissions, &too_long(3, length)).1, Err(FilterError::Malformed(_))),
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
