//! Protocol versions (section 7.1.1).

use super::{Input, RfbError, VERSION_3_8, VERSION_LEN};

/// The protocol version: the lower of both sides'.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Version {
    V3_3,
    V3_7,
    V3_8,
}

impl Version {
    /// The version to use with a server of version `major.minor`. 3.5 was never published and is
    /// treated as 3.3 (section 7.1.1); so are other odd ones below 3.7.
    pub(super) fn agree(major: u16, minor: u16) -> Result<Self, RfbError> {
        match (major, minor) {
            (3, 3..=6) => Ok(Self::V3_3),
            (3, 7) => Ok(Self::V3_7),
            (3, 8..) | (4.., _) => Ok(Self::V3_8),
            (0..=2, _) | (3, 0..=2) => Err(RfbError::Version { major, minor }),
        }
    }

    pub(super) fn text(self) -> &'static [u8] {
        match self {
            Self::V3_3 => b"RFB 003.003\n",
            Self::V3_7 => b"RFB 003.007\n",
            Self::V3_8 => VERSION_3_8,
        }
    }
}

/// Reads `"RFB xxx.yyy\n"`. Fails at the first byte that cannot be part of it, so that nobody waits
/// for the rest of another protocol's bytes.
pub(super) fn parse(input: &mut Input<'_>) -> Result<Option<(u16, u16)>, RfbError> {
    // `0` stands for any digit.
    const SHAPE: &[u8; VERSION_LEN] = b"RFB 000.000\n";
    let matches_shape = |(&actual, &expected): (&u8, &u8)| {
        if expected == b'0' { actual.is_ascii_digit() } else { actual == expected }
    };
    if !input.rest.iter().zip(SHAPE).all(matches_shape) {
        return Err(RfbError::NotRfb);
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    Ok(input.array::<VERSION_LEN>().map(|text| (number(&text[4..7]), number(&text[8..11]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_refused_at_its_first_wrong_byte() {
        for bad in [&b"H"[..], b"RFB 003,", b"RFB 003.008\r", b"SSH-2.0-", b"RFB 00x", b"\0"] {
            assert_eq!(parse(&mut Input::new(bad)), Err(RfbError::NotRfb), "{bad:?}");
        }
        for part in [&b""[..], b"R", b"RFB 003.00", b"RFB 003.008"] {
            assert_eq!(parse(&mut Input::new(part)), Ok(None), "{part:?}");
        }
        assert_eq!(parse(&mut Input::new(b"RFB 003.889\nmore")), Ok(Some((3, 889))));
    }
}
