//! Protocol codecs and filters, byte for byte.

mod rdp;
mod rfb_client;
mod rfb_filter;
mod rfb_filter_streams;
mod rfb_init;
mod rfb_server;
mod rfb_vencrypt;

use portcullis::protocol::rfb::{Progress, RfbError};

/// Result of a handshake: everything it sent, and how it ended. `Ok` holds the bytes it left for
/// the relay; `Err(None)` means that it needs more input.
type Outcome = (Vec<u8>, Result<Vec<u8>, Option<RfbError>>);

/// Feeds a handshake its input in the given pieces, as a driver does: unconsumed input is passed
/// again, with more appended.
fn run_handshake<'a>(
    mut advance: impl FnMut(&[u8], &mut Vec<u8>) -> Result<Progress, RfbError>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut pending = Vec::new();
    let mut sent = Vec::new();
    let mut done = false;
    for piece in pieces {
        pending.extend_from_slice(piece);
        if done {
            continue;
        }
        match advance(&pending, &mut sent) {
            Ok(progress) => {
                assert!(progress.consumed <= pending.len(), "it consumed what was not there");
                pending.drain(..progress.consumed);
                done = progress.done;
                if progress.start_tls.is_some() {
                    // The rest is inside TLS, not part of this handshake's input.
                    return (sent, Err(None));
                }
            }
            Err(error) => return (sent, Err(Some(error))),
        }
    }
    (sent, if done { Ok(pending) } else { Err(None) })
}

/// One byte at a time.
fn bytewise(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(1)
}
