//! Both handshakes of RFB: a desktop's bytes to the gateway as its client, a browser's to the
//! gateway as its server. Whatever comes, nothing panics, no more is used up than is there, and it
//! goes as it goes byte by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::rfb::Progress;
use portcullis_fuzz::protocol::rfb::client::{ClientHandshake, Proof};
use portcullis_fuzz::protocol::rfb::init::ServerInit;
use portcullis_fuzz::protocol::rfb::server::ServerHandshake;

/// Feeds what arrives in pieces, as the gateway does; tells what was said, how much was used, and
/// whether it went well.
fn play(bytes: &[u8], piece: usize, mut advance: impl FnMut(&[u8], &mut Vec<u8>) -> Option<Progress>) -> (Vec<u8>, usize, Option<bool>) {
    let (mut said, mut used) = (Vec::new(), 0);
    for end in (piece..bytes.len()).step_by(piece).chain([bytes.len()]) {
        // After a refusal nobody asks how far it was read.
        let Some(progress) = advance(&bytes[used..end], &mut said) else { return (said, 0, None) };
        assert!(progress.consumed <= end - used);
        used += progress.consumed;
        if progress.done || progress.secure.is_some() {
            return (said, used, Some(true));
        }
    }
    (said, used, Some(false))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    if choice & 8 == 8 {
        let run = |piece| {
            let mut greeting = Vec::new();
            let mut handshake = ServerHandshake::start(&mut greeting);
            play(bytes, piece, |input, said| handshake.advance(input, said).ok())
        };
        assert_eq!(run(usize::MAX), run(1));
        return;
    }
    let username: &[u8] = if choice & 1 == 1 { b"ada" } else { b"" };
    let password: &[u8] = if choice & 2 == 2 { b"secret" } else { b"" };
    let proof = Proof { username, password, certified: choice & 4 == 4 };
    let run = |piece| {
        let mut handshake = ClientHandshake::new(&proof);
        play(bytes, piece, |input, said| {
            let mut progress = handshake.advance(input, said).ok()?;
            if progress.secure.is_some() {
                // The rest comes through TLS, and anew.
                handshake.secured(said).ok()?;
                progress.secure = None;
            }
            Some(progress)
        })
    };
    let (said, _, _) = run(usize::MAX);
    // Only Plain says the password, which has a user name.
    assert!(password.is_empty() || !username.is_empty() || !said.windows(6).any(|w| w == password));
    let _ = run(1);
    let _ = ServerInit::parse(bytes);
});
