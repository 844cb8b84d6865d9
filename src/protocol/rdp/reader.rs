//! Reads fields from the front of a PDU, and writes fields in place. A missing field is an error
//! that names the PDU.

use super::RdpError;

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; `what` names them in errors.
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn malformed(&self) -> RdpError {
        RdpError::Malformed(self.what)
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], RdpError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(RdpError::Malformed(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdpError> {
        let (head, rest) =
            self.rest.split_first_chunk::<N>().ok_or(RdpError::Malformed(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn expect(&mut self, bytes: &[u8]) -> Result<(), RdpError> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(RdpError::Malformed(self.what))?;
        Ok(())
    }

    pub(super) fn u8(&mut self) -> Result<u8, RdpError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, RdpError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u16_be(&mut self) -> Result<u16, RdpError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, RdpError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A length determinant of aligned PER (X.691 section 10.9): one byte, or two with the top bit
    /// set. RDP does not use fragments.
    pub(super) fn per_length(&mut self) -> Result<usize, RdpError> {
        match self.u8()? {
            short @ 0..=0x7f => Ok(usize::from(short)),
            long @ 0x80..=0xbf => Ok(usize::from(long & 0x3f) << 8 | usize::from(self.u8()?)),
            0xc0..=0xff => Err(self.malformed()),
        }
    }

    /// A definite BER length (X.690 section 8.1.3) of at most two bytes.
    pub(super) fn ber_length(&mut self) -> Result<usize, RdpError> {
        match self.u8()? {
            short @ 0..=0x7f => Ok(usize::from(short)),
            0x81 => Ok(usize::from(self.u8()?)),
            0x82 => Ok(usize::from(self.u16_be()?)),
            0x80 | 0x83..=0xff => Err(self.malformed()),
        }
    }

    /// The content of a BER element with this one-byte tag.
    pub(super) fn ber_element(&mut self, tag: u8) -> Result<&'a [u8], RdpError> {
        self.expect(&[tag])?;
        let length = self.ber_length()?;
        self.take(length)
    }
}

/// Overwrites bytes in place.
///
/// # Errors
/// [`RdpError::Malformed`] when they reach beyond the end.
pub(super) fn write_at(
    bytes: &mut [u8],
    at: usize,
    value: &[u8],
    what: &'static str,
) -> Result<(), RdpError> {
    let target = bytes
        .get_mut(at..)
        .and_then(|rest| rest.get_mut(..value.len()))
        .ok_or(RdpError::Malformed(what))?;
    target.copy_from_slice(value);
    Ok(())
}

/// A little-endian number of two bytes. `None` beyond the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

/// A little-endian number of four bytes. `None` beyond the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}
