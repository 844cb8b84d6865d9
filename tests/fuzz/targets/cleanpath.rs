//! What a browser asks for by RDCleanPath, and the first PDU of RDP inside it: decided once, the
//! same however little of it has arrived, within limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::rdp::cleanpath::{MAX_REQUEST, noted, read};
use portcullis_fuzz::protocol::rdp::x224::{self, HYBRID, SSL};

/// Beginnings that are read, too, before the whole.
const BEGINNINGS: usize = 96;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    let step = bytes.len().div_ceil(BEGINNINGS).max(1);
    for n in (0..bytes.len().min(32)).chain((32..bytes.len()).step_by(step)) {
        let early = read(&bytes[..n]);
        // What was decided stays, whatever comes behind it.
        assert!(early == Ok(None) || early == whole, "{n} bytes: {early:?}, whole: {whole:?}");
    }
    let Ok(Some((request, length))) = whole else { return };
    assert!(length <= bytes.len() && length <= MAX_REQUEST);
    assert!(request.connect.len() + request.destination.len() <= length);
    let noted = noted(&request.destination);
    assert!(noted.chars().count() <= 200 && !noted.chars().any(char::is_control));
    if let Ok(protocols) = x224::requested(&request.connect) {
        assert_ne!(protocols & SSL, 0);
        assert!(request.connect.len() <= x224::MAX_LENGTH);
    }
    // The request that goes to the server is the gateway's own, and one that it would take itself.
    assert_eq!(x224::requested(&x224::request(SSL | HYBRID)), Ok(SSL | HYBRID));
});
