//! `ServerInit`, and the sizes that are refused.

use portcullis::protocol::rfb::RfbError;
use portcullis::protocol::rfb::init::{MAX_NAME, ServerInit};
use proptest::prelude::*;

/// `ServerInit` with 32 bits of 24, true colour.
pub fn server_init(width: u16, height: u16, name: &[u8]) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap();
    [&width.to_be_bytes()[..], &height.to_be_bytes(), &FORMAT, &length.to_be_bytes(), name].concat()
}

/// TigerVNC's pixel format.
pub const FORMAT: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

#[test]
fn is_parsed_when_it_is_complete() {
    let bytes = [&server_init(1024, 768, b"desk")[..], b"more"].concat();
    for n in 0..28 {
        assert_eq!(ServerInit::parse(&bytes[..n]), Ok(None), "{n}");
    }
    let init = ServerInit::parse(&bytes).unwrap().unwrap();
    assert_eq!((init.length, init.format.bytes(), init.format.tight_bytes()), (28, 4, 3));
}

#[test]
fn pixels_are_measured() {
    let sized = |bits: u8, depth: u8, green: u8| {
        let mut bytes = server_init(1, 1, b"");
        (bytes[4], bytes[5], bytes[11]) = (bits, depth, green);
        ServerInit::parse(&bytes)
            .map(|init| init.map(|init| (init.format.bytes(), init.format.tight_bytes())))
    };
    assert_eq!(sized(8, 8, 255), Ok(Some((1, 1))));
    assert_eq!(sized(16, 16, 255), Ok(Some((2, 2))));
    assert_eq!(sized(32, 30, 255), Ok(Some((4, 4))));
    assert_eq!(sized(32, 24, 127), Ok(Some((4, 4))));
    assert_eq!(
        sized(24, 24, 255),
        Err(RfbError::InvalidValue { what: "bits of a pixel", value: 24 })
    );
}

#[test]
fn unsupported_sizes_are_refused_before_the_rest_arrives() {
    for (width, height) in [(60_000, 60_000), (32_768, 1), (1, 65_535), (16_384, 16_384)] {
        let bytes = server_init(width, height, b"");
        assert_eq!(ServerInit::parse(&bytes), Err(RfbError::TooLarge { width, height }));
    }
    for (width, height) in [(8192, 8192), (32_767, 2048), (0, 0)] {
        assert!(
            ServerInit::parse(&server_init(width, height, b"")).unwrap().is_some(),
            "{width} x {height}"
        );
    }
    let mut endless = server_init(1, 1, b"");
    for length in [u32::try_from(MAX_NAME).unwrap() + 1, u32::MAX] {
        endless[20..].copy_from_slice(&length.to_be_bytes());
        assert_eq!(
            ServerInit::parse(&endless),
            Err(RfbError::InvalidValue { what: "length of its name", value: length })
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some(init)) = ServerInit::parse(&bytes) {
            prop_assert!(init.length <= bytes.len());
        }
    }
}
