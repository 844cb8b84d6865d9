//! The gateway as RFB server.

use super::{Outcome, bytewise, run_handshake};
use portcullis::protocol::rfb::RfbError;
use portcullis::protocol::rfb::server::ServerHandshake;
use proptest::prelude::*;

fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut greeting = Vec::new();
    let mut handshake = ServerHandshake::start(&mut greeting);
    let (sent, end) = run_handshake(|input, reply| handshake.advance(input, reply), pieces);
    ([greeting, sent].concat(), end)
}

#[test]
fn offers_3_8_and_none() {
    let browser = b"RFB 003.008\n\x01\x01";
    let input = b"RFB 003.008\n\x01\x01\0\0\0\0".to_vec();
    assert_eq!(in_pieces([&browser[..]]), (input.clone(), Ok(vec![])));
    assert_eq!(in_pieces(bytewise(browser)), (input.clone(), Ok(vec![])));
    assert_eq!(in_pieces([&browser[..13]]), (input.clone(), Err(None)), "ClientInit is due");
    assert_eq!(
        in_pieces([&b"RFB 003.008\n\x01\x00keys"[..]]),
        (input, Ok(b"keys".to_vec())),
        "what follows ClientInit is the desktop's"
    );
}

#[test]
fn sends_nothing_before_input() {
    assert_eq!(in_pieces([]), (b"RFB 003.008\n".to_vec(), Err(None)));
    for n in 0..12 {
        assert_eq!(in_pieces([&b"RFB 003.008\n"[..n]]), (b"RFB 003.008\n".to_vec(), Err(None)));
    }
}

#[test]
fn accepts_nothing_else() {
    assert_eq!(
        in_pieces([&b"RFB 003.003\n"[..]]).1,
        Err(Some(RfbError::Version { major: 3, minor: 3 }))
    );
    assert_eq!(
        in_pieces([&b"RFB 003.008\n\x02"[..]]).1,
        Err(Some(RfbError::InvalidValue { what: "chosen security type", value: 2 }))
    );
    assert_eq!(in_pieces([&b"GET / HTTP/1.1"[..]]).1, Err(Some(RfbError::NotRfb)));
}

proptest! {
    #[test]
    fn any_input_has_the_same_result_however_it_is_split(tail in proptest::collection::vec(any::<u8>(), 0..20), greet in any::<bool>()) {
        let bytes = if greet { [&b"RFB 003.008\n"[..], &tail].concat() } else { tail };
        prop_assert_eq!(in_pieces([&bytes[..]]), in_pieces(bytewise(&bytes)));
    }
}
