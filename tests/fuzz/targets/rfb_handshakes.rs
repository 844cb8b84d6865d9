//! Both RFB handshakes: with a desktop and with a browser. For any input: no panic, no more is
//! consumed than available, and the result is the same byte by byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::protocol::rfb::Progress;
use portcullis_fuzz::protocol::rfb::client::{ClientHandshake, Credentials};
use portcullis_fuzz::protocol::rfb::init::ServerInit;
use portcullis_fuzz::protocol::rfb::server::ServerHandshake;

/// Feeds the input in pieces, as the gateway does; returns the output, the consumed bytes, and
/// whether it succeeded.
fn play(bytes: &[u8], piece: usize, mut advance: impl FnMut(&[u8], &mut Vec<u8>) -> Option<Progress>) -> (Vec<u8>, usize, Option<bool>) {
    let (mut sent, mut consumed) = (Vec::new(), 0);
    for end in (piece..bytes.len()).step_by(piece).chain([bytes.len()]) {
        // After a failure the consumed length is meaningless.
        let Some(progress) = advance(&bytes[consumed..end], &mut sent) else { return (sent, 0, None) };
        assert!(progress.consumed <= end - consumed);
        consumed += progress.consumed;
        if progress.done || progress.start_tls.is_some() {
            return (sent, consumed, Some(true));
        }
    }
    (sent, consumed, Some(false))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    if choice & 8 == 8 {
        let run = |piece| {
            let mut greeting = Vec::new();
            let mut handshake = ServerHandshake::start(&mut greeting);
            play(bytes, piece, |input, sent| handshake.advance(input, sent).ok())
        };
        assert_eq!(run(usize::MAX), run(1));
        return;
    }
    let username: &[u8] = if choice & 1 == 1 { b"ada" } else { b"" };
    let password: &[u8] = if choice & 2 == 2 { b"secret" } else { b"" };
    let credentials = Credentials { username, password, require_certificate: choice & 4 == 4 };
    let run = |piece| {
        let mut handshake = ClientHandshake::new(&credentials);
        play(bytes, piece, |input, sent| {
            let mut progress = handshake.advance(input, sent).ok()?;
            if progress.start_tls.is_some() {
                // The rest comes through TLS, from a new buffer.
                handshake.tls_established(sent).ok()?;
                progress.start_tls = None;
            }
            Some(progress)
        })
    };
    let (sent, _, _) = run(usize::MAX);
    // Only Plain sends the password, and it needs a user name.
    assert!(password.is_empty() || !username.is_empty() || !sent.windows(6).any(|w| w == password));
    let _ = run(1);
    let _ = ServerInit::parse(bytes);
});
