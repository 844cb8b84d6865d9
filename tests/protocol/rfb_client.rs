//! The gateway as RFB client: golden conversations, whole and in pieces, and desktops that send
//! false data.

use super::{Outcome, bytewise, run_handshake};
use portcullis::protocol::rfb::client::{ClientHandshake, Credentials};
use portcullis::protocol::rfb::{MAX_PENDING, MAX_REASON, Reason, RfbError};
use proptest::prelude::*;

pub(super) const PASSWORD: &[u8] = b"vncpass1";
pub(super) const CHALLENGE: [u8; 16] = *b"0123456789abcdef";
/// DES-ECB of the challenge under "vncpass1" with reversed bits, by `openssl enc -des-ecb -K
/// 6e76c60e86cece8c`.
pub(super) const ANSWER: [u8; 16] = [
    0x56, 0x25, 0x32, 0x4f, 0x9f, 0xeb, 0x0e, 0x61, 0xe5, 0x29, 0xa1, 0x7e, 0xdd, 0x40, 0x79, 0x46,
];

pub(super) fn handshake_of(password: &[u8]) -> ClientHandshake {
    ClientHandshake::new(&Credentials { password, ..Credentials::default() })
}

fn handshake_with(password: &[u8], desktop: &[u8]) -> Outcome {
    let whole = in_pieces(password, [desktop]);
    let split = in_pieces(password, bytewise(desktop));
    assert_eq!(whole.0, split.0, "the same is sent, however it arrives");
    assert_eq!(whole.1, split.1, "and it ends the same way");
    whole
}

fn in_pieces<'a>(password: &[u8], pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut handshake = handshake_of(password);
    run_handshake(|input, reply| handshake.advance(input, reply), pieces)
}

pub(super) fn error_of(password: &[u8], desktop: &[u8]) -> RfbError {
    handshake_with(password, desktop).1.unwrap_err().expect("an error, not a wish for more")
}

fn reason(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

#[test]
fn vnc_auth_in_3_8() {
    let desktop = [&b"RFB 003.008\n"[..], &[2, 2, 1], &CHALLENGE, &[0, 0, 0, 0]].concat();
    let (sent, end) = handshake_with(PASSWORD, &desktop);
    assert_eq!(sent, [&b"RFB 003.008\n"[..], &[2], &ANSWER].concat());
    assert_eq!(end, Ok(vec![]));
}

#[test]
fn none_in_3_8_waits_for_the_result() {
    let desktop = [&b"RFB 003.008\n"[..], &[1, 1], &[0, 0, 0, 0]].concat();
    assert_eq!(handshake_with(b"", &desktop), ([&b"RFB 003.008\n"[..], &[1]].concat(), Ok(vec![])));
    assert_eq!(handshake_with(b"", &desktop[..14]).1, Err(None));
}

#[test]
fn none_in_3_7_has_no_result() {
    let desktop = [&b"RFB 003.007\n"[..], &[3, 16, 1, 2]].concat();
    assert_eq!(handshake_with(b"", &desktop), ([&b"RFB 003.007\n"[..], &[1]].concat(), Ok(vec![])));
}

#[test]
fn vnc_auth_in_3_7() {
    let desktop = [&b"RFB 003.007\n"[..], &[1, 2], &CHALLENGE, &[0, 0, 0, 0]].concat();
    assert_eq!(
        handshake_with(PASSWORD, &desktop),
        ([&b"RFB 003.007\n"[..], &[2], &ANSWER].concat(), Ok(vec![]))
    );
}

#[test]
fn in_3_3_the_server_chooses() {
    let none = [&b"RFB 003.003\n"[..], &[0, 0, 0, 1]].concat();
    assert_eq!(handshake_with(b"", &none), (b"RFB 003.003\n".to_vec(), Ok(vec![])));
    let auth = [&b"RFB 003.003\n"[..], &[0, 0, 0, 2], &CHALLENGE, &[0, 0, 0, 0]].concat();
    assert_eq!(
        handshake_with(PASSWORD, &auth),
        ([&b"RFB 003.003\n"[..], &ANSWER].concat(), Ok(vec![]))
    );
}

#[test]
fn the_lower_version_is_used() {
    for (theirs, ours) in [
        ("003.003", "003.003"),
        ("003.005", "003.003"),
        ("003.006", "003.003"),
        ("003.007", "003.007"),
        ("003.008", "003.008"),
        ("003.889", "003.008"),
        ("004.001", "003.008"),
        ("005.000", "003.008"),
    ] {
        let (sent, _) = handshake_with(b"", format!("RFB {theirs}\n").as_bytes());
        assert_eq!(sent, format!("RFB {ours}\n").as_bytes(), "{theirs}");
    }
    assert_eq!(error_of(b"", b"RFB 002.002\n"), RfbError::Version { major: 2, minor: 2 });
    assert_eq!(error_of(b"", b"RFB 003.000\n"), RfbError::Version { major: 3, minor: 0 });
}

#[test]
fn what_follows_is_left_for_the_relay() {
    let desktop = [&b"RFB 003.008\n"[..], &[1, 1], &[0, 0, 0, 0], b"early"].concat();
    let mut handshake = handshake_of(b"");
    let progress = handshake.advance(&desktop, &mut Vec::new()).unwrap();
    assert!(progress.done);
    assert_eq!(&desktop[progress.consumed..], b"early");
    assert_eq!(handshake.advance(b"more", &mut Vec::new()), Err(RfbError::AlreadyFinished));
}

#[test]
fn a_wrong_password_is_reported_with_the_desktops_reason() {
    let desktop = [
        &b"RFB 003.008\n"[..],
        &[1, 2],
        &CHALLENGE,
        &[0, 0, 0, 1],
        &reason("Authentication failed"),
    ]
    .concat();
    let error = error_of(PASSWORD, &desktop);
    assert_eq!(error.to_string(), "it did not accept the password: Authentication failed");
    assert_eq!(error.reason_code(), "rfb_denied");
    for old in ["RFB 003.007\n", "RFB 003.003\n"] {
        let kind: &[u8] = if old == "RFB 003.007\n" { &[1, 2] } else { &[0, 0, 0, 2] };
        let desktop = [old.as_bytes(), kind, &CHALLENGE, &[0, 0, 0, 1]].concat();
        assert_eq!(
            error_of(PASSWORD, &desktop),
            RfbError::AuthenticationFailed(Reason::default()),
            "{old}"
        );
    }
}

#[test]
fn a_refusal_is_reported_with_its_reason() {
    let list = [&b"RFB 003.008\n"[..], &[0], &reason("Too many connections")].concat();
    let number = [&b"RFB 003.003\n"[..], &[0, 0, 0, 0], &reason("Too many connections")].concat();
    for desktop in [list, number] {
        assert_eq!(
            error_of(PASSWORD, &desktop).to_string(),
            "it refused the connection: Too many connections"
        );
    }
}

#[test]
fn the_lease_decides_the_security_type() {
    let none_only = [&b"RFB 003.008\n"[..], &[1, 1]].concat();
    assert_eq!(
        error_of(PASSWORD, &none_only),
        RfbError::NoAcceptableSecurityType { password: true, offered: vec![1] }
    );
    let auth_only = [&b"RFB 003.008\n"[..], &[2, 2, 30]].concat();
    assert_eq!(
        error_of(b"", &auth_only),
        RfbError::NoAcceptableSecurityType { password: false, offered: vec![2, 30] }
    );
    let (sent, _) = handshake_with(PASSWORD, &none_only[..12]);
    assert_eq!(sent, b"RFB 003.008\n", "and nothing about the password is sent");
    let old = [&b"RFB 003.003\n"[..], &[0, 0, 0, 1]].concat();
    assert_eq!(
        error_of(PASSWORD, &old),
        RfbError::NoAcceptableSecurityType { password: true, offered: vec![1] }
    );
}

#[test]
fn false_lengths_are_refused() {
    for length in [u32::try_from(MAX_REASON).unwrap() + 1, u32::MAX, 1 << 31] {
        let desktop = [&b"RFB 003.008\n"[..], &[0], &length.to_be_bytes()].concat();
        assert_eq!(
            error_of(PASSWORD, &desktop),
            RfbError::Refused(Reason::default()),
            "{length} bytes are not waited for"
        );
    }
    let longest = "x".repeat(MAX_REASON);
    let desktop = [&b"RFB 003.008\n"[..], &[0], &reason(&longest)].concat();
    assert_eq!(
        error_of(PASSWORD, &desktop).to_string(),
        format!("it refused the connection: {}", "x".repeat(200))
    );
}

#[test]
fn impossible_values_are_named() {
    let result = [&b"RFB 003.008\n"[..], &[1, 1], &[0, 0, 0, 7]].concat();
    assert_eq!(
        error_of(b"", &result),
        RfbError::InvalidValue { what: "security result", value: 7 }
    );
    let kind = [&b"RFB 003.003\n"[..], &[0, 0, 1, 1]].concat();
    assert_eq!(error_of(b"", &kind), RfbError::InvalidValue { what: "security type", value: 257 });
}

#[test]
fn other_protocols_are_detected_at_once() {
    for hello in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
        "\u{3}\0\0\u{13}",
        "RFB  3.8\n",
        "rfb 003.008\n",
    ] {
        assert_eq!(error_of(PASSWORD, hello.as_bytes()), RfbError::NotRfb, "{hello:?}");
    }
}

#[test]
fn a_close_is_reported_with_its_state() {
    let desktop =
        [&b"RFB 003.008\n"[..], &[1, 2], &CHALLENGE, &[0, 0, 0, 1], &reason("no")].concat();
    let closed_after = |n: usize| {
        let mut handshake = handshake_of(PASSWORD);
        handshake.advance(&desktop[..n], &mut Vec::new()).unwrap();
        handshake.unexpected_close()
    };
    for n in 0..12 {
        assert_eq!(closed_after(n), RfbError::Closed("its version"));
    }
    for n in 12..14 {
        assert_eq!(closed_after(n), RfbError::Closed("its security types"));
    }
    for n in 14..30 {
        assert_eq!(closed_after(n), RfbError::Closed("its challenge"));
    }
    for n in 30..34 {
        assert_eq!(closed_after(n), RfbError::Closed("its verdict"));
    }
    for n in 34..desktop.len() {
        assert_eq!(
            closed_after(n),
            RfbError::AuthenticationFailed(Reason::default()),
            "a refusal stays one without its words"
        );
    }
}

#[test]
fn debug_shows_no_password() {
    assert_eq!(format!("{:?}", handshake_of(PASSWORD)), "ClientHandshake { state: Version, .. }");
}

#[test]
fn a_refusal_for_another_reason_is_no_wrong_password() {
    let result = |types: &[u8], rest: &[u8], words: &str| {
        [&b"RFB 003.008\n"[..], types, rest, &[0, 0, 0, 1], &reason(words)].concat()
    };
    let with_password = |words| error_of(PASSWORD, &result(&[1, 2], &CHALLENGE, words));
    for words in [
        "Another connection is being asked about",
        "Connection rejected by local user",
        "Unable to query the local user to accept the connection",
    ] {
        assert_eq!(with_password(words).reason_code(), "rfb_refused", "{words}");
    }
    for words in ["", "Authentication failure", "password check failed!", "Access denied"] {
        assert_eq!(with_password(words).reason_code(), "rfb_denied", "{words}");
    }
    let without = error_of(b"", &result(&[1, 1], &[], "Authentication failed"));
    assert_eq!(without.reason_code(), "rfb_refused", "no password was sent");
}

#[test]
fn a_lockout_is_distinguished() {
    let result = |kind: u8, words: &str| {
        [&b"RFB 003.008\n"[..], &[1, 2], &CHALLENGE, &[0, 0, 0, kind], &reason(words)].concat()
    };
    assert_eq!(
        error_of(PASSWORD, &result(1, "Too many security failures")).reason_code(),
        "rfb_locked"
    );
    assert_eq!(error_of(PASSWORD, &result(1, "Authentication failed")).reason_code(), "rfb_denied");
    let old = [&b"RFB 003.003\n"[..], &[0, 0, 0, 2], &CHALLENGE, &[0, 0, 0, 2]].concat();
    assert_eq!(error_of(PASSWORD, &old).reason_code(), "rfb_locked");
    let full = [&b"RFB 003.008\n"[..], &[0], &reason("Too many connections")].concat();
    let RfbError::Refused(words) = error_of(PASSWORD, &full) else { panic!("a refusal") };
    assert!(!words.is_lockout(), "a full house is no lockout");
}

/// Bytes that begin like a handshake, so that random input reaches every state.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let version = proptest::sample::select(vec![
        &b"RFB 003.003\n"[..],
        b"RFB 003.007\n",
        b"RFB 003.008\n",
        b"",
    ]);
    let kinds = proptest::sample::select(vec![
        &[1_u8, 2][..],
        &[0],
        &[0, 0, 0, 2],
        &[0, 0, 0, 0],
        &[1, 19, 0, 2, 0],
        &[],
    ]);
    (version, kinds, proptest::collection::vec(any::<u8>(), 0..80))
        .prop_map(|(v, k, rest)| [v, k, &rest].concat())
}

proptest! {
    #[test]
    fn any_input_has_the_same_result_however_it_is_split(bytes in plausible(), cuts in proptest::collection::vec(0_usize..100, 0..6), password in 0_usize..2) {
        let password: &[u8] = [&b""[..], PASSWORD][password];
        let mut at: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
        at.sort_unstable();
        let pieces = at.windows(2).map(|w| &bytes[w[0]..w[1]]);
        prop_assert_eq!(in_pieces(password, [&bytes[..]]), in_pieces(password, pieces));
    }

    #[test]
    fn no_handshake_waits_with_a_full_buffer(bytes in plausible(), filler in any::<u8>()) {
        let mut bytes = bytes;
        bytes.resize(12 + 256 + 16 + MAX_PENDING, filler);
        let (_, end) = in_pieces(PASSWORD, [&bytes[..]]);
        prop_assert_ne!(end, Err(None));
    }
}
