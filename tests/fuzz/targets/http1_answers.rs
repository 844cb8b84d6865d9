//! Responses of applications: a head, its framing, a chunked body. The result must not depend on the pieces in which octets arrive.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::http1::{Chunk, ChunkedDecoder, Framing, HeadDecoder, Malformed, is_persistent, response_framing};

/// Decodes octets that arrive in pieces: head and persistence, framing, body data, and what follows.
fn decode(octets: &[u8], piece: usize, to_head: bool) -> Result<Option<(String, Framing, Vec<u8>, Vec<u8>)>, Malformed> {
    let (mut decoder, mut arrived) = (HeadDecoder::default(), BytesMut::new());
    let mut pieces = octets.chunks(piece);
    let head = loop {
        let Some(some) = pieces.next() else { return Ok(None) };
        arrived.extend_from_slice(some);
        if let Some(head) = decoder.decode(&mut arrived)? {
            break head;
        }
    };
    let framing = response_framing(&head, to_head)?;
    let head = format!("{head:?} {}", is_persistent(&head, framing));
    let mut data = Vec::new();
    if framing == Framing::Chunked {
        let mut decoder = ChunkedDecoder::default();
        loop {
            match decoder.decode(&mut arrived)? {
                Some(Chunk::Data(some)) => {
                    assert!(!some.is_empty());
                    data.extend_from_slice(&some);
                }
                Some(Chunk::Trailers(_)) => {}
                Some(Chunk::End) => break,
                None => match pieces.next() {
                    Some(some) => arrived.extend_from_slice(some),
                    None => return Ok(None),
                },
            }
        }
    }
    for some in pieces {
        arrived.extend_from_slice(some);
    }
    Ok(Some((head, framing, data, arrived.to_vec())))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, octets)) = bytes.split_first() else { return };
    let piece = usize::from(choice >> 1).max(1);
    let whole = decode(octets, usize::MAX, choice & 1 == 1);
    let parts = decode(octets, piece, choice & 1 == 1);
    assert!(whole == parts || (whole.is_err() && parts.is_err()), "{whole:?} {parts:?}");
});
