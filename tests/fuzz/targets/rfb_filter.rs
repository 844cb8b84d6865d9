//! What policy takes out of RFB: the same whole and byte by byte, nothing but what came, and no
//! text where none may go.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::rfb::filter::down::DownFilter;
use portcullis_fuzz::protocol::rfb::filter::up::UpFilter;
use portcullis_fuzz::protocol::rfb::filter::{FilterError, Format, Held, Rules, Sieve};
use portcullis_fuzz::protocol::rfb::init::ServerInit;

#[derive(Default, PartialEq, Debug)]
struct Sifted {
    passed: Vec<u8>,
    held: Vec<(Held, u64)>,
}

impl Sieve for Sifted {
    fn pass(&mut self, piece: Bytes) {
        assert!(!piece.is_empty());
        self.passed.extend_from_slice(&piece);
    }
    fn hold(&mut self, held: Held, bytes: u64) {
        self.held.push((held, bytes));
    }
}

/// A desktop of 64 by 64 pixels of four bytes.
const INIT: [u8; 24] = [0, 64, 0, 64, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, 0, 0, 0, 0];

fn run(rules: Rules, up: bool, bytes: &[u8], piece: usize) -> (Sifted, Result<bool, FilterError>) {
    let Ok(Some(init)) = ServerInit::parse(&INIT) else { return (Sifted::default(), Ok(true)) };
    let (format, mut out) = (Format::new(init.format), Sifted::default());
    let (mut above, mut below) = (UpFilter::new(rules, format.clone()), DownFilter::new(rules, format));
    for chunk in bytes.chunks(piece) {
        let chunk = Bytes::copy_from_slice(chunk);
        let fed = if up { above.feed(&chunk, &mut out) } else { below.feed(&chunk, &mut out) };
        if let Err(error) = fed {
            return (out, Err(error));
        }
    }
    (out, Ok(if up { above.between() } else { below.between() }))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let rules = Rules { clipboard_in: choice & 1 == 1, clipboard_out: choice & 2 == 2, input: choice & 4 == 4 };
    let up = choice & 8 == 8;
    let whole = run(rules, up, bytes, usize::MAX);
    for piece in [1, 3, 13] {
        assert_eq!(whole, run(rules, up, bytes, piece));
    }
    // `SetEncodings` alone is written anew, and never longer.
    assert!(whole.0.passed.len() <= bytes.len());
});
