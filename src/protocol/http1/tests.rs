//! Heads, framing and the chunked coding: complete, octet by octet, truncated, and random.

use super::*;
use bytes::BytesMut;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use proptest::prelude::*;

/// Decodes a head that arrives in pieces of so many octets; also returns what follows it.
fn decode_head(octets: &[u8], piece: usize) -> (Result<Option<Head>, Malformed>, BytesMut) {
    let (mut decoder, mut arrived) = (HeadDecoder::default(), BytesMut::new());
    let mut pieces = octets.chunks(piece.max(1));
    for some in pieces.by_ref() {
        arrived.extend_from_slice(some);
        match decoder.decode(&mut arrived) {
            Ok(None) => {}
            decoded => {
                arrived.extend_from_slice(&pieces.collect::<Vec<_>>().concat());
                return (decoded, arrived);
            }
        }
    }
    (Ok(None), arrived)
}

fn framed(octets: &str, to_head: bool) -> Result<Framing, Malformed> {
    let (head, _) = decode_head(octets.as_bytes(), usize::MAX);
    response_framing(&head?.expect("a complete head"), to_head)
}

/// Data and trailers of a body, and what follows it.
type Body = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

/// Decodes a chunked body that arrives in pieces; `None`: it is not complete.
fn decode_body(octets: &[u8], piece: usize) -> Result<Option<Body>, Malformed> {
    let (mut decoder, mut arrived, mut data, mut trailers) =
        (ChunkedDecoder::default(), BytesMut::new(), Vec::new(), None);
    let mut pieces = octets.chunks(piece.max(1));
    loop {
        match decoder.decode(&mut arrived)? {
            Some(Chunk::Data(some)) => data.extend_from_slice(&some),
            Some(Chunk::Trailers(fields)) => trailers = Some(fields),
            Some(Chunk::End) => {
                assert!(decoder.is_done());
                return Ok(Some((
                    data,
                    trailers,
                    [&arrived[..], &pieces.collect::<Vec<_>>().concat()].concat(),
                )));
            }
            None => match pieces.next() {
                Some(some) => arrived.extend_from_slice(some),
                None => return Ok(None),
            },
        }
    }
}

#[test]
fn a_head_is_decoded_in_any_pieces() {
    let octets = b"HTTP/1.1 200 OK\r\nA: 1\r\na:  2 \r\nEmpty:\r\nB: \xff\r\n\r\nbody";
    for piece in 1..=octets.len() {
        let (head, rest) = decode_head(octets, piece);
        let head = head.unwrap().expect("a complete head");
        assert_eq!((head.status, head.version), (StatusCode::OK, Version::HTTP_11));
        let values: Vec<&[u8]> =
            head.fields.get_all("a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [&b"1"[..], b"2"]);
        assert_eq!(
            (head.fields["empty"].as_bytes(), head.fields["b"].as_bytes()),
            (&b""[..], &b"\xff"[..])
        );
        assert_eq!(&rest[..], b"body");
    }
    for end in 0..octets.len() - 4 {
        assert!(matches!(decode_head(&octets[..end], 3).0, Ok(None)), "{end}");
    }
    // Without a reason phrase, and with bare LF.
    for octets in
        ["HTTP/1.0 204\r\n\r\n", "HTTP/1.0 204 \nA: b\n\n", "HTTP/1.0 204 x\r\nA: b\n\r\n"]
    {
        let head = decode_head(octets.as_bytes(), 1).0.unwrap().expect("a complete head");
        assert_eq!(
            (head.status, head.version),
            (StatusCode::NO_CONTENT, Version::HTTP_10),
            "{octets:?}"
        );
    }
}

#[test]
fn an_invalid_head_is_rejected_early() {
    for octets in [
        "S",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/1.1 2OO OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
    ] {
        assert!(matches!(decode_head(octets.as_bytes(), 1).0, Err(Malformed::Head)), "{octets:?}");
    }
}

#[test]
fn a_line_without_a_field_name_is_left_out() {
    for line in ["X-Odd : 1", "no colon", ": empty", "a b: c", "\u{fc}: x", "X-Odd\t: 1"] {
        let octets = format!(
            "HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 5\r\n{line}\r\nB: x\r\n\r\nhello"
        );
        for piece in [1, 7, octets.len()] {
            let (head, rest) = decode_head(octets.as_bytes(), piece);
            let head = head.unwrap().expect("a complete head");
            let names: Vec<&str> = head.fields.keys().map(HeaderName::as_str).collect();
            assert_eq!((head.status, &names[..]), (StatusCode::OK, &["content-length", "b"][..]));
            assert_eq!(&rest[..], b"hello", "{line}");
        }
    }
}

#[test]
fn a_line_that_may_frame_the_body_is_not_left_out() {
    for line in [
        "Content-Length : 5",
        "transfer-encoding : chunked",
        "Transfer-Encoding\u{b}: chunked",
        "Transfer-Encoding chunked",
        "Connection : close",
        " Content-Length: 5",
        "a : b\r\n folded",
    ] {
        let octets = format!("HTTP/1.1 200 OK\r\n{line}\r\nB: x\r\n\r\n");
        let (head, _) = decode_head(octets.as_bytes(), 1);
        assert!(matches!(head, Err(Malformed::Head)), "{line:?} {head:?}");
    }
}

#[test]
fn heads_are_limited() {
    let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(
        decode_head(fields(FIELDS_MAX).as_bytes(), 4096).0.unwrap().unwrap().fields.len(),
        FIELDS_MAX
    );
    assert!(matches!(
        decode_head(fields(FIELDS_MAX + 1).as_bytes(), 4096).0,
        Err(Malformed::TooLarge)
    ));
    let long = |count: usize| format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(count));
    assert!(decode_head(long(HEAD_MAX - 64).as_bytes(), 4096).0.unwrap().is_some());
    assert!(matches!(decode_head(long(HEAD_MAX).as_bytes(), 4096).0, Err(Malformed::TooLarge)));
    // Without an end it is rejected at the limit.
    assert!(matches!(
        decode_head(format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(HEAD_MAX)).as_bytes(), 4096).0,
        Err(Malformed::TooLarge)
    ));
}

#[test]
fn ambiguous_framing_is_rejected() {
    let ok = "HTTP/1.1 200 OK\r\n";
    for (fields, framing) in [
        ("", Framing::UntilClose),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("Content-Length: 18446744073709551615\r\n", Framing::Length(u64::MAX)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Framing::Length(5)),
        ("Content-Length: 5, 5\r\n", Framing::Length(5)),
        ("Transfer-Encoding: Chunked\r\n", Framing::Chunked),
    ] {
        assert_eq!(framed(&format!("{ok}{fields}\r\n"), false), Ok(framing), "{fields}");
        assert_eq!(framed(&format!("{ok}{fields}\r\n"), true), Ok(Framing::Length(0)), "{fields}");
        for status in [
            "HTTP/1.1 204 No\r\n",
            "HTTP/1.1 304 No\r\n",
            "HTTP/1.1 101 No\r\n",
            "HTTP/1.1 100 No\r\n",
        ] {
            assert_eq!(
                framed(&format!("{status}{fields}\r\n"), false),
                Ok(Framing::Length(0)),
                "{status}{fields}"
            );
        }
    }
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length:\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        assert_eq!(
            framed(&format!("{ok}{fields}\r\n"), false),
            Err(Malformed::Framing),
            "{fields}"
        );
    }
    assert_eq!(
        framed("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        Err(Malformed::Framing)
    );
}

#[test]
fn persistence_follows_version_and_connection_field() {
    for (head, kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: closed\r\n", true),
        ("HTTP/1.1 200 OK\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive, close\r\n", false),
    ] {
        let decoded = decode_head(format!("{head}\r\n").as_bytes(), usize::MAX).0.unwrap().unwrap();
        assert_eq!(
            is_persistent(&decoded, response_framing(&decoded, false).unwrap()),
            kept,
            "{head}"
        );
    }
}

#[test]
fn chunks_are_decoded_in_any_pieces() {
    let octets = b"5\r\nhello\r\n1 \t; name=\"v\"; b\r\n \r\n00006\r\nworld!\r\n0\r\n\r\nHTTP/1.1";
    for piece in 1..=octets.len() {
        let (data, trailers, rest) = decode_body(octets, piece).unwrap().expect("a complete body");
        assert_eq!(
            (&data[..], trailers, &rest[..]),
            (&b"hello world!"[..], None, &b"HTTP/1.1"[..])
        );
    }
    for end in 0..octets.len() - 8 {
        assert_eq!(decode_body(&octets[..end], 2), Ok(None), "{end}");
    }
    let octets = b"0;x\r\nA: 1\r\nB: 2\r\n\r\nrest";
    for piece in 1..=octets.len() {
        let (data, trailers, rest) = decode_body(octets, piece).unwrap().expect("a complete body");
        let trailers = trailers.expect("trailers");
        assert_eq!(
            (data.len(), trailers["a"].as_bytes(), trailers["b"].as_bytes(), &rest[..]),
            (0, &b"1"[..], &b"2"[..], &b"rest"[..])
        );
    }
}

#[test]
fn invalid_chunks_are_rejected() {
    for octets in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        ";a\r\n",
        "1\n1\r\n",
        "1\r1\r\n",
        "1 1\r\n",
        "1;a\n1\r\n",
        "1\r\n12\r\n",
        "1\r\n1\n",
        "1\r\n1\r1",
        "11111111111111111\r\n",
        "0\r\nA b\r\n\r\n",
        "0\r\nA: b\r\n c\r\n\r\n",
        "0\r\nA: b\n\nx\r\n\r\n",
    ] {
        assert!(decode_body(octets.as_bytes(), 1).is_err(), "{octets:?}");
        assert!(decode_body(octets.as_bytes(), usize::MAX).is_err(), "{octets:?}");
    }
    assert_eq!(
        decode_body(format!("1;{}\r\n", "x".repeat(20_000)).as_bytes(), 4096),
        Err(Malformed::Chunk)
    );
    // Also when spread over many chunks.
    assert_eq!(
        decode_body("1;xxxxxxx\r\ny\r\n".repeat(3_000).as_bytes(), 4096),
        Err(Malformed::Chunk)
    );
    assert_eq!(
        decode_body(format!("0\r\na: {}", "x".repeat(HEAD_MAX)).as_bytes(), 4096),
        Err(Malformed::TooLarge)
    );
}

proptest! {
    /// Encoded bodies are decoded unchanged, in any pieces.
    #[test]
    fn encoding_round_trips(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..8), piece in 1usize..40, fields in any::<bool>()) {
        let mut octets = Vec::new();
        for data in &pieces {
            octets.extend_from_slice(chunked::size_line(data.len()).as_bytes());
            octets.extend_from_slice(data);
            octets.extend_from_slice(chunked::CRLF);
        }
        let mut trailers = HeaderMap::new();
        if fields {
            trailers.insert("x-sum", HeaderValue::from_static("1"));
            octets.extend_from_slice(&chunked::last_chunk(&trailers));
        } else {
            octets.extend_from_slice(chunked::LAST_CHUNK);
        }
        octets.extend_from_slice(b"behind");
        prop_assert_eq!(decode_body(&octets, piece), Ok(Some((pieces.concat(), fields.then_some(trailers), b"behind".to_vec()))));
    }

    /// The result does not depend on the pieces in which octets arrive.
    #[test]
    fn decoding_is_independent_of_pieces(octets in "(HTTP/1\\.[01] [0-9]{2,4}( [a-z]{0,3})?\r?\n)?([a-zA-Z: ]{0,6}\r?\n?){0,6}(\r?\n){0,2}[a-f0-9;\r\n]{0,12}", piece in 1usize..8) {
        let (whole, whole_rest) = decode_head(octets.as_bytes(), usize::MAX);
        let (parts, parts_rest) = decode_head(octets.as_bytes(), piece);
        match (whole, parts) {
            (Ok(Some(a)), Ok(Some(b))) => prop_assert_eq!((a.status, a.version, a.fields, whole_rest), (b.status, b.version, b.fields, parts_rest)),
            (Ok(None), Ok(None)) => {}
            (Err(a), Err(b)) => prop_assert_eq!(a, b),
            (a, b) => prop_assert!(false, "{a:?} {b:?}"),
        }
        let whole = decode_body(octets.as_bytes(), usize::MAX);
        let parts = decode_body(octets.as_bytes(), piece);
        prop_assert!(whole == parts || (whole.is_err() && parts.is_err()), "{whole:?} {parts:?}");
    }

    #[test]
    fn chunked_decoding_is_independent_of_pieces(octets in "([0-3]{1,2}(;[a-z]{0,3})?\r\n[a-z]{0,3}\r\n){0,4}(0\r\n)?([A-Z]: [a-z]\r\n){0,2}\r\n", piece in 1usize..8) {
        let whole = decode_body(octets.as_bytes(), usize::MAX);
        let parts = decode_body(octets.as_bytes(), piece);
        prop_assert!(whole == parts || (whole.is_err() && parts.is_err()), "{whole:?} {parts:?}");
    }
}
