//! RDCleanPath requests, and the first PDU of RDP inside: the decision is final, independent of
//! chunks, within limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::rdp::cleanpath::{MAX_REQUEST, printable_destination, read};
use portcullis_fuzz::protocol::rdp::x224::{self, HYBRID, SSL};

/// Prefixes that are parsed before the whole input.
const PREFIXES: usize = 96;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    let step = bytes.len().div_ceil(PREFIXES).max(1);
    for n in (0..bytes.len().min(32)).chain((32..bytes.len()).step_by(step)) {
        let early = read(&bytes[..n]);
        // A decision does not change with more input.
        assert!(early == Ok(None) || early == whole, "{n} bytes: {early:?}, whole: {whole:?}");
    }
    let Ok(Some((request, length))) = whole else { return };
    assert!(length <= bytes.len() && length <= MAX_REQUEST);
    assert!(request.connect.len() + request.destination.len() <= length);
    let printable = printable_destination(&request.destination);
    assert!(printable.chars().count() <= 200 && !printable.chars().any(char::is_control));
    if let Ok(protocols) = x224::parse_request(&request.connect) {
        assert_ne!(protocols & SSL, 0);
        assert!(request.connect.len() <= x224::MAX_LENGTH);
    }
    // The request to the server is the gateway's own, and valid.
    assert_eq!(x224::parse_request(&x224::encode_request(SSL | HYBRID)), Ok(SSL | HYBRID));
});
