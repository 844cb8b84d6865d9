//! The keys of a WireGuard tunnel.
//!
//! - [`PrivateKey`]: a Curve25519 secret. Zeroized when dropped; redacted by `Debug`.
//! - [`PublicKey`]: identifies a peer. Printed as standard base64, as by other WireGuard tools.
//! - [`PresharedKey`]: a symmetric secret mixed into the handshake (WireGuard paper, section 5.2).
//!   Zeroized and redacted too.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of every key in this module, in bytes.
pub const KEY_LEN: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 32 bytes of standard base64.
    #[error("a key is 32 bytes in standard base64")]
    Malformed,
    /// The operating system's random number generator failed.
    #[error("no randomness to make a key from")]
    NoRandomness,
}

#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LEN]);

impl PrivateKey {
    /// A new key from the operating system's random number generator.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self::from_bytes(*random()?))
    }

    /// Clamping happens when the key is used.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, for sealing into storage; zeroized when dropped.
    pub fn expose(&self) -> Zeroizing<[u8; KEY_LEN]> {
        Zeroizing::new(self.0)
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey(*x25519::PublicKey::from(&self.secret()).as_bytes())
    }

    pub(crate) fn secret(&self) -> x25519::StaticSecret {
        x25519::StaticSecret::from(self.0)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    pub(crate) fn x25519(&self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.0)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

/// A symmetric key known to both ends of one tunnel.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; KEY_LEN]);

impl PresharedKey {
    /// A new key from the operating system's random number generator.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self::from_bytes(*random()?))
    }

    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, for the peer over an encrypted channel; zeroized when dropped.
    pub fn expose(&self) -> Zeroizing<[u8; KEY_LEN]> {
        Zeroizing::new(self.0)
    }

    /// Standard base64, for the peer; zeroized when dropped.
    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(redacted)")
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

fn random() -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    getrandom::fill(bytes.as_mut()).map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes)
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| KeyError::Malformed)?);
    let mut key = Zeroizing::new([0; KEY_LEN]);
    if bytes.len() != KEY_LEN {
        return Err(KeyError::Malformed);
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_survives_base64() {
        let key = PrivateKey::generate().unwrap().public_key();
        assert_eq!(key.to_string().len(), 44);
        assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
    }

    #[test]
    fn secrets_do_not_show() {
        let private = PrivateKey::from_bytes([7; 32]);
        let psk = PresharedKey::from_bytes([9; 32]);
        assert_eq!(format!("{private:?} {psk:?}"), "PrivateKey(redacted) PresharedKey(redacted)");
    }

    #[test]
    fn short_long_and_foreign_text_is_refused() {
        for text in
            ["", "AAAA", "not base64!", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33])]
        {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Malformed), "{text}");
        }
    }

    #[test]
    fn the_public_half_is_the_one_of_rfc_7748() {
        // RFC 7748 section 6.1, Bob.
        let secret =
            hex::decode("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
                .unwrap();
        let private = PrivateKey::from_bytes(secret.try_into().unwrap());
        assert_eq!(
            hex::encode(private.public_key().as_bytes()),
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
        );
    }
}
