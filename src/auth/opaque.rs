//! Opaque random tokens: refresh tokens, MFA tokens, stream tickets, join tokens.
//!
//! 256 random bits cannot be guessed, so the store keeps a plain SHA-256 of each, and a stolen
//! database contains no usable token.

use super::random::random_bytes;
use crate::domain::secret::SecretString;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A new token: `prefix`, which names its kind, and 43 characters.
#[must_use]
pub fn new_token(prefix: &str) -> SecretString {
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
    SecretString::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(*bytes)))
}

/// What is stored of a token: SHA-256, hex.
#[must_use]
pub fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_hash() {
        let (a, b) = (new_token("pt_"), new_token("pt_"));
        assert_ne!(a, b);
        assert_eq!(a.expose().len(), 46);
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
