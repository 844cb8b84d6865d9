//! The gateway's keys. One master key is kept in a file outside the database; every other key is
//! derived from it by [`super::kdf`].
//!
//! | term | meaning |
//! | --- | --- |
//! | sealed | a secret as the database stores it: `v1.` and base64url of nonce (24 bytes) and ciphertext, XChaCha20-Poly1305 |
//! | purpose | what the secret is and whose, such as `totp:<user id>`; authenticated as associated data, so that a sealed text cannot be moved elsewhere |
//! | head signature | Ed25519 (RFC 8032) over [`crate::domain::audit::Head::signed_text`], standard base64 |

use super::kdf;
use super::random::random_bytes;
use crate::domain::secret::SecretBytes;
use crate::domain::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 24;
const SEALED_PREFIX: &str = "v1.";

/// Seals secrets at rest and signs the audit head. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    keys: Arc<Keys>,
}

struct Keys {
    seal: XChaCha20Poly1305,
    head: SigningKey,
    key_check_value: String,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault[redacted]")
    }
}

impl Vault {
    /// The vault of a master key. The caller wipes its own copy.
    #[must_use]
    pub fn from_master_key(master: [u8; 32]) -> Self {
        let master = Zeroizing::new(master);
        let seal = kdf::derive(&master, "portcullis seal v1");
        let head = kdf::derive(&master, "portcullis audit head v1");
        let check = kdf::derive(&master, "portcullis key check v1");
        Self {
            keys: Arc::new(Keys {
                seal: XChaCha20Poly1305::new((&*seal).into()),
                head: SigningKey::from_bytes(&head),
                key_check_value: hex::encode(&check[..16]),
            }),
        }
    }

    /// Identifies the master key without revealing it: stored in the database, so that a wrong key
    /// file is noticed at start.
    #[must_use]
    pub fn key_check_value(&self) -> &str {
        &self.keys.key_check_value
    }

    /// Seals `plain` for `purpose` under a new nonce.
    #[must_use]
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> String {
        let nonce: [u8; NONCE_BYTES] = random_bytes();
        let payload = Payload { msg: plain, aad: purpose.as_bytes() };
        let sealed = self
            .keys
            .seal
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("INVARIANT: XChaCha20-Poly1305 refuses only messages beyond 256 GiB");
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        format!("{SEALED_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Unseals what [`Vault::seal`] sealed for the same purpose under the same master key.
    ///
    /// # Errors
    /// `Internal` when the text was altered, or sealed for another purpose or under another key;
    /// the cases are not distinguished.
    pub fn unseal(&self, purpose: &str, sealed: &str) -> Result<SecretBytes> {
        let refused = || {
            Error::internal(
                "a sealed value does not open: altered, for another purpose, or under another master key",
            )
        };
        let bytes = sealed
            .strip_prefix(SEALED_PREFIX)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .ok_or_else(refused)?;
        let (nonce, message) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(refused)?;
        let payload = Payload { msg: message, aad: purpose.as_bytes() };
        self.keys
            .seal
            .decrypt(XNonce::from_slice(nonce), payload)
            .map(SecretBytes::new)
            .map_err(|_| refused())
    }

    /// Signs the text of an audit head.
    #[must_use]
    pub fn sign_head(&self, text: &str) -> String {
        STANDARD.encode(self.keys.head.sign(text.as_bytes()).to_bytes())
    }

    /// Whether this vault signed the text of an audit head.
    #[must_use]
    pub fn verify_head(&self, text: &str, signature: &str) -> bool {
        verify(&self.keys.head.verifying_key(), text, signature)
    }

    /// The public key that verifies audit heads: 32 bytes, standard base64.
    #[must_use]
    pub fn audit_public_key(&self) -> String {
        STANDARD.encode(self.keys.head.verifying_key().as_bytes())
    }
}

/// Whether the key `public_key` (as returned by [`Vault::audit_public_key`]) signed the text of an
/// audit head. Needs no secret.
#[must_use]
pub fn verify_head_with(public_key: &str, text: &str, signature: &str) -> bool {
    let key = STANDARD.decode(public_key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    key.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok())
        .is_some_and(|key| verify(&key, text, signature))
}

fn verify(key: &VerifyingKey, text: &str, signature: &str) -> bool {
    let signature =
        STANDARD.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
    signature.is_some_and(|signature| key.verify_strict(text.as_bytes(), &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sealed_values_unseal(plain: Vec<u8>, purpose: String) {
            let vault = Vault::from_master_key([7; 32]);
            let sealed = vault.seal(&purpose, &plain);
            let unsealed = vault.unseal(&purpose, &sealed).unwrap();
            prop_assert_eq!(unsealed.expose(), &plain);
            prop_assert_ne!(&sealed, &vault.seal(&purpose, &plain));
        }

        #[test]
        fn any_flipped_bit_is_refused(plain: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let vault = Vault::from_master_key([7; 32]);
            let sealed = vault.seal("totp:a", &plain);
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed[SEALED_PREFIX.len()..]).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let altered = format!("{SEALED_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
            prop_assert!(vault.unseal("totp:a", &altered).is_err());
        }

        #[test]
        fn malformed_text_is_refused(text: String) {
            prop_assert!(Vault::from_master_key([7; 32]).unseal("totp:a", &text).is_err());
        }
    }

    #[test]
    fn purpose_and_key_are_authenticated() {
        let vault = Vault::from_master_key([7; 32]);
        let sealed = vault.seal("totp:a", b"secret");
        assert!(vault.unseal("totp:b", &sealed).is_err());
        let other = Vault::from_master_key([8; 32]);
        assert!(other.unseal("totp:a", &sealed).is_err());
        assert_ne!(vault.key_check_value(), other.key_check_value());
        assert!(!format!("{:?} {:?}", vault, vault.unseal("totp:a", &sealed)).contains("secret"));
    }

    #[test]
    fn heads_are_signed() {
        let vault = Vault::from_master_key([7; 32]);
        let signature = vault.sign_head("portcullis-audit-head:1:ab");
        assert!(vault.verify_head("portcullis-audit-head:1:ab", &signature));
        assert!(verify_head_with(
            &vault.audit_public_key(),
            "portcullis-audit-head:1:ab",
            &signature
        ));
        assert!(!vault.verify_head("portcullis-audit-head:2:ab", &signature));
        assert!(
            !Vault::from_master_key([8; 32]).verify_head("portcullis-audit-head:1:ab", &signature)
        );
        for bad in ["", "AAAA", "not base64!", &"A".repeat(88)] {
            assert!(!vault.verify_head("portcullis-audit-head:1:ab", bad), "{bad}");
        }
    }
}
