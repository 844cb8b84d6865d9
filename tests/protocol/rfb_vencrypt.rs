//! VeNCrypt: the choice of a subtype, and servers that send invalid values.

use super::rfb_client::{ANSWER, CHALLENGE, PASSWORD, error_of, handshake_of};
use portcullis::protocol::rfb::client::{ClientHandshake, Credentials};
use portcullis::protocol::rfb::{RfbError, Tls};

/// Output of a VeNCrypt server until TLS begins: version, acknowledgement, subtypes,
/// acknowledgement.
fn vencrypt(kinds: &[u32]) -> Vec<u8> {
    let list: Vec<u8> = kinds.iter().flat_map(|kind| kind.to_be_bytes()).collect();
    [
        &b"RFB 003.008\n"[..],
        &[2, 2, 19],
        &[0, 2],
        &[0],
        &[u8::try_from(kinds.len()).unwrap()],
        &list,
        &[1],
    ]
    .concat()
}

/// The chosen subtype of those offered, and its TLS variant.
fn chosen(proof: &Credentials<'_>, kinds: &[u32]) -> Result<(u32, Tls), RfbError> {
    let server = vencrypt(kinds);
    let run = |size: usize| {
        let mut handshake = ClientHandshake::new(proof);
        let (mut pending, mut sent) = (Vec::new(), Vec::new());
        for piece in server.chunks(size) {
            pending.extend_from_slice(piece);
            let progress = handshake.advance(&pending, &mut sent)?;
            pending.drain(..progress.consumed);
            if let Some(tls) = progress.start_tls {
                assert!(pending.is_empty(), "all of it is needed");
                return Ok((handshake, sent, tls));
            }
        }
        panic!("TLS begins");
    };
    let (mut handshake, sent, tls) = run(1)?;
    assert_eq!(run(server.len()).unwrap().1, sent, "the same is sent, however it arrives");
    assert_eq!(sent[..15], *b"RFB 003.008\n\x13\0\x02");
    let kind = u32::from_be_bytes(sent[15..].try_into().unwrap());
    // First message inside TLS.
    let mut inside = Vec::new();
    handshake.tls_established(&mut inside).unwrap();
    if matches!(kind, 259 | 262) {
        assert_eq!(inside, b"\0\0\0\x03\0\0\0\x08adavncpass1");
    } else {
        assert_eq!(inside, b"");
    }
    if matches!(kind, 258 | 261) {
        handshake.advance(&CHALLENGE, &mut inside).unwrap();
        assert_eq!(inside, ANSWER);
    }
    assert!(handshake.advance(&[0; 4], &mut Vec::new()).unwrap().done);
    Ok((kind, tls))
}

#[test]
fn the_best_subtype_of_vencrypt_is_chosen() {
    let nobody = Credentials::default();
    let secret = Credentials { password: PASSWORD, ..nobody };
    let ada = Credentials { username: b"ada", ..secret };
    let all = [257, 258, 259, 260, 261, 262];
    for (proof, kinds, kind, tls) in [
        (&nobody, &all[..], 260, Tls::X509),
        (&secret, &all[..], 261, Tls::X509),
        (&ada, &all[..], 262, Tls::X509),
        (&ada, &[258, 261][..], 261, Tls::X509),
        (&ada, &[259, 258][..], 259, Tls::Anonymous),
        (&secret, &[257, 258, 260][..], 258, Tls::Anonymous),
        (&nobody, &[257, 258][..], 257, Tls::Anonymous),
    ] {
        assert_eq!(chosen(proof, kinds), Ok((kind, tls)), "{kinds:?}");
    }
    assert_eq!(
        chosen(&secret, &[257, 260]),
        Err(RfbError::NoAcceptableSecurityType { password: true, offered: vec![257, 260] }),
        "it cannot wave us through"
    );
    assert_eq!(
        chosen(&nobody, &[258, 262]),
        Err(RfbError::NoAcceptableSecurityType { password: false, offered: vec![258, 262] })
    );
    assert_eq!(
        chosen(&secret, &[256, 7]),
        Err(RfbError::NoAcceptableSecurityType { password: true, offered: vec![256, 7] }),
        "Plain in the clear is not spoken"
    );
}

#[test]
fn where_a_certificate_is_expected_no_weaker_type_is_chosen() {
    let proof =
        Credentials { password: PASSWORD, require_certificate: true, ..Credentials::default() };
    assert_eq!(chosen(&proof, &[257, 258, 261]), Ok((261, Tls::X509)));
    assert_eq!(chosen(&proof, &[257, 258]), Err(RfbError::NoCertificate));
    for plain in [
        &b"RFB 003.008\n\x01\x02"[..],
        b"RFB 003.008\n\x01\x01",
        b"RFB 003.003\n\0\0\0\x02",
        b"RFB 003.003\n\0\0\0\x13",
    ] {
        let error = ClientHandshake::new(&proof).advance(plain, &mut Vec::new()).unwrap_err();
        assert_eq!(error, RfbError::NoCertificate, "{plain:?}");
    }
}

#[test]
fn invalid_vencrypt_is_refused() {
    let begin = b"RFB 003.008\n\x01\x13";
    let nonsense = |what, value| RfbError::InvalidValue { what, value };
    for (input, error) in [
        (&[0, 1][..], nonsense("version of VeNCrypt", 1)),
        (&[0, 0], nonsense("version of VeNCrypt", 0)),
        (&[0, 2, 1], nonsense("answer to a version of VeNCrypt", 1)),
        (&[0, 2, 0, 0], RfbError::NoAcceptableSecurityType { password: true, offered: vec![] }),
        (&[0, 2, 0, 1, 0, 0, 1, 2, 2], nonsense("answer to a security type of VeNCrypt", 2)),
        (&[0, 2, 0, 1, 0, 0, 1, 2, 0], RfbError::Declined(258)),
    ] {
        assert_eq!(error_of(PASSWORD, &[&begin[..], input].concat()), error, "{input:?}");
    }
    let offers = [&begin[..], &[0, 2, 0, 2, 0, 0, 1, 2, 0, 0, 1, 5]].concat();
    for (avoided, chosen) in
        [(&[][..], Ok(261)), (&[261], Ok(258)), (&[261, 258], Err("rfb_no_security"))]
    {
        let (mut handshake, mut input) = (handshake_of(PASSWORD).excluding(avoided), Vec::new());
        let choice = handshake.advance(&offers, &mut input).map_err(|error| error.reason_code());
        assert_eq!(choice.map(|_| u32::from_be_bytes(*input.last_chunk().unwrap())), chosen);
        assert_eq!(handshake.unauthenticated_subtype(), chosen.ok(), "nothing is proved by it yet");
    }
    let mut handshake = handshake_of(PASSWORD);
    handshake.advance(begin, &mut Vec::new()).unwrap();
    assert_eq!(
        handshake.tls_established(&mut Vec::new()),
        Err(RfbError::AlreadyFinished),
        "TLS was not asked for"
    );
}
