//! The RFB filter: the same output whole and byte by byte, nothing but parts of the input, and no
//! text where it is forbidden.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::rfb::filter::down::DownFilter;
use portcullis_fuzz::protocol::rfb::filter::up::UpFilter;
use portcullis_fuzz::protocol::rfb::filter::{FilterError, SharedPixelFormat, RefusedContent, Permissions, FilterSink};
use portcullis_fuzz::protocol::rfb::init::ServerInit;

#[derive(Default, PartialEq, Debug)]
struct CollectedOutput {
    passed: Vec<u8>,
    refused: Vec<(RefusedContent, u64)>,
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

/// A desktop of 64 by 64 pixels of four bytes.
const INIT: [u8; 24] = [0, 64, 0, 64, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, 0, 0, 0, 0];

fn run(permissions: Permissions, up: bool, bytes: &[u8], piece: usize) -> (CollectedOutput, Result<bool, FilterError>) {
    let Ok(Some(init)) = ServerInit::parse(&INIT) else { return (CollectedOutput::default(), Ok(true)) };
    let (format, mut out) = (SharedPixelFormat::new(init.format), CollectedOutput::default());
    let (mut up_filter, mut down_filter) = (UpFilter::new(permissions, format.clone()), DownFilter::new(permissions, format));
    for chunk in bytes.chunks(piece) {
        let chunk = Bytes::copy_from_slice(chunk);
        let result = if up { up_filter.feed(&chunk, &mut out) } else { down_filter.feed(&chunk, &mut out) };
        if let Err(error) = result {
            return (out, Err(error));
        }
    }
    (out, Ok(if up { up_filter.at_message_boundary() } else { down_filter.at_message_boundary() }))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let permissions = Permissions { clipboard_in: choice & 1 == 1, clipboard_out: choice & 2 == 2, input: choice & 4 == 4 };
    let up = choice & 8 == 8;
    let whole = run(permissions, up, bytes, usize::MAX);
    for piece in [1, 3, 13] {
        assert_eq!(whole, run(permissions, up, bytes, piece));
    }
    // Only `SetEncodings` is rewritten, and never longer.
    assert!(whole.0.passed.len() <= bytes.len());
});
