//! Where a PDU ends, from its first bytes.
//!
//! | first byte | framing | length |
//! | --- | --- | --- |
//! | `03` | TPKT (RFC 1006 section 6) | two bytes, big endian, at offset 2; at most 65,535 |
//! | low two bits 0 | fast path (2.2.8.1.2, 2.2.9.1.2) | one byte at offset 1, or two with the top bit set; at most 32,767 |
//! | `30`, only while CredSSP runs (MS-CSSP 2.2.1) | DER | after the tag; at most [`MAX_CREDSSP`] |

use super::RdpError;

/// Longest CredSSP message. NTLM's have some hundreds of bytes, Kerberos' some thousands.
pub const MAX_CREDSSP: usize = 64 * 1024;
/// Bytes of a PDU that always suffice to tell its length.
pub const MAX_HEADER: usize = 5;
/// Shortest TPKT PDU: its header and that of X.224 data.
const MIN_TPKT: usize = 7;

/// Framing of a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Everything that is neither of the others.
    Tpkt,
    /// Input (up) and pictures (down).
    FastPath,
    CredSsp,
}

/// Framing and length of a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    pub kind: Kind,
    /// Length in bytes, header included. Never 0.
    pub length: usize,
}

/// Result of measuring the first bytes of a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// So many bytes are needed, from the PDU's start; more than there are, and at most
    /// [`MAX_HEADER`].
    Need(usize),
    Known(Frame),
}

#[derive(Clone, Copy, Debug)]
pub struct Framer {
    /// Whether CredSSP messages may occur.
    pub credssp: bool,
    /// Longest TPKT PDU that is accepted, in bytes.
    pub limit: usize,
}

impl Framer {
    /// For a connection after CredSSP, without a limit beyond the framing's own.
    #[must_use]
    pub fn new() -> Self {
        Self { credssp: false, limit: usize::from(u16::MAX) }
    }

    /// Measures the PDU at the start of `bytes`.
    ///
    /// # Errors
    /// [`RdpError::NotRdp`] when no PDU begins so, [`RdpError::TooLong`] when it exceeds the limit,
    /// [`RdpError::Malformed`] when it is shorter than its own header.
    pub fn measure(&self, bytes: &[u8]) -> Result<Measure, RdpError> {
        let Some(&first) = bytes.first() else { return Ok(Measure::Need(1)) };
        match first {
            0x03 => self.tpkt(bytes),
            0x30 if self.credssp => credssp(bytes),
            _ if first & 3 == 0 => fast_path(bytes),
            _ => Err(RdpError::NotRdp { first }),
        }
    }

    fn tpkt(&self, bytes: &[u8]) -> Result<Measure, RdpError> {
        let Some(&[_, _, high, low]) = bytes.first_chunk() else { return Ok(Measure::Need(4)) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < MIN_TPKT {
            return Err(RdpError::Malformed("TPKT header"));
        }
        if length > self.limit {
            return Err(RdpError::TooLong { what: "TPKT PDU", length, limit: self.limit });
        }
        Ok(Measure::Known(Frame { kind: Kind::Tpkt, length }))
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

fn fast_path(bytes: &[u8]) -> Result<Measure, RdpError> {
    let (header, length) = match bytes {
        [_, short @ 0..=0x7f, ..] => (2, usize::from(*short)),
        [_, high, low, ..] => (3, usize::from(high & 0x7f) << 8 | usize::from(*low)),
        [_] | [] => return Ok(Measure::Need(2)),
        [_, _] => return Ok(Measure::Need(3)),
    };
    if length < header {
        return Err(RdpError::Malformed("fast-path header"));
    }
    Ok(Measure::Known(Frame { kind: Kind::FastPath, length }))
}

fn credssp(bytes: &[u8]) -> Result<Measure, RdpError> {
    let (header, content) = match bytes {
        [_, short @ 0..=0x7f, ..] => (2, usize::from(*short)),
        [_, 0x81, n, ..] => (3, usize::from(*n)),
        [_, 0x82, a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        [_, 0x83, a, b, c, ..] => {
            (5, usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c))
        }
        [_] | [] => return Ok(Measure::Need(2)),
        [_, 0x81] => return Ok(Measure::Need(3)),
        [_, 0x82] | [_, 0x82, _] => return Ok(Measure::Need(4)),
        [_, 0x83] | [_, 0x83, _] | [_, 0x83, _, _] => return Ok(Measure::Need(5)),
        [_, 0x80 | 0x84..=0xff, ..] => return Err(RdpError::Malformed("CredSSP message")),
    };
    let length = header + content;
    if length > MAX_CREDSSP {
        return Err(RdpError::TooLong { what: "CredSSP message", length, limit: MAX_CREDSSP });
    }
    Ok(Measure::Known(Frame { kind: Kind::CredSsp, length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(kind: Kind, length: usize) -> Result<Measure, RdpError> {
        Ok(Measure::Known(Frame { kind, length }))
    }

    #[test]
    fn each_framing_is_measured() {
        let framer = Framer { credssp: true, limit: 1000 };
        assert_eq!(framer.measure(&[3, 0, 0, 19]), known(Kind::Tpkt, 19));
        assert_eq!(framer.measure(&[0x04, 0x0a]), known(Kind::FastPath, 10));
        assert_eq!(framer.measure(&[0x00, 0x83, 0x01]), known(Kind::FastPath, 0x301));
        assert_eq!(framer.measure(&[0x30, 0x05]), known(Kind::CredSsp, 7));
        assert_eq!(framer.measure(&[0x30, 0x81, 0x80]), known(Kind::CredSsp, 0x83));
        assert_eq!(framer.measure(&[0x30, 0x82, 0x01, 0x00]), known(Kind::CredSsp, 0x104));
        assert_eq!(framer.measure(&[0x30, 0x83, 0x00, 0x01, 0x00]), known(Kind::CredSsp, 0x105));
        assert_eq!(
            Framer::new().measure(&[0x30, 0x05]),
            known(Kind::FastPath, 5),
            "past CredSSP the byte has another meaning"
        );
    }

    #[test]
    fn an_invalid_header_is_a_specific_error() {
        let framer = Framer { credssp: true, limit: 1000 };
        assert_eq!(
            framer.measure(&[3, 0, 4, 0]),
            Err(RdpError::TooLong { what: "TPKT PDU", length: 1024, limit: 1000 })
        );
        assert_eq!(framer.measure(&[3, 0, 0, 6]), Err(RdpError::Malformed("TPKT header")));
        assert_eq!(framer.measure(&[0, 1]), Err(RdpError::Malformed("fast-path header")));
        assert_eq!(framer.measure(&[0, 0x80, 2]), Err(RdpError::Malformed("fast-path header")));
        assert_eq!(framer.measure(b"GET /"), Err(RdpError::NotRdp { first: b'G' }));
        assert_eq!(framer.measure(&[0x30, 0x84]), Err(RdpError::Malformed("CredSSP message")));
        let limit = MAX_CREDSSP;
        assert_eq!(
            framer.measure(&[0x30, 0x83, 1, 0, 0]),
            Err(RdpError::TooLong { what: "CredSSP message", length: 65541, limit })
        );
    }

    #[test]
    fn the_needed_length_grows_until_it_suffices() {
        let framer = Framer { credssp: true, limit: usize::MAX };
        for pdu in [
            &[3, 0, 0, 19, 0][..],
            &[0, 0x83, 1, 0, 0],
            &[4, 10, 0, 0, 0],
            &[0x30, 0x83, 0, 9, 9],
            &[0x30, 0x82, 9, 9, 9],
        ] {
            let mut seen = 0;
            while let Measure::Need(n) = framer.measure(&pdu[..seen]).unwrap() {
                assert!(n > seen && n <= MAX_HEADER);
                seen = n;
            }
        }
    }
}
