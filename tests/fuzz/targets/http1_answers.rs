//! Answers of applications: a head, its framing, a chunked body; whole and in pieces alike.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::http1::{Chunk, Chunks, Framing, Malformed, Reader, framing, is_kept};

/// Everything that is read of octets that come in pieces: the head, how it is framed, the body's
/// data, what is behind it.
fn read(octets: &[u8], piece: usize, to_head: bool) -> Result<Option<(String, Framing, Vec<u8>, Vec<u8>)>, Malformed> {
    let (mut reader, mut arrived) = (Reader::default(), BytesMut::new());
    let mut pieces = octets.chunks(piece);
    let head = loop {
        let Some(some) = pieces.next() else { return Ok(None) };
        arrived.extend_from_slice(some);
        if let Some(head) = reader.read(&mut arrived)? {
            break head;
        }
    };
    let framing = framing(&head, to_head)?;
    let said = format!("{head:?} {}", is_kept(&head, framing));
    let mut data = Vec::new();
    if framing == Framing::Chunked {
        let mut chunks = Chunks::default();
        loop {
            match chunks.read(&mut arrived)? {
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
    Ok(Some((said, framing, data, arrived.to_vec())))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, octets)) = bytes.split_first() else { return };
    let piece = usize::from(choice >> 1).max(1);
    let whole = read(octets, usize::MAX, choice & 1 == 1);
    let parts = read(octets, piece, choice & 1 == 1);
    assert!(whole == parts || (whole.is_err() && parts.is_err()), "{whole:?} {parts:?}");
});
