//! The protocols, byte for byte.

mod rdp;
mod rfb_client;
mod rfb_filter;
mod rfb_init;
mod rfb_server;

use portcullis::protocol::rfb::{Progress, RfbError};

/// What a machine did with a conversation: everything it sent, and how it ended. `Ok` holds the
/// bytes it left for the relay; `Err(None)` means that it wants more.
type Outcome = (Vec<u8>, Result<Vec<u8>, Option<RfbError>>);

/// Gives a machine its input in the given pieces, as a driver does: what is not consumed comes
/// again, with more behind it.
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
                    // What follows is inside TLS, and not this machine's to read before.
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
