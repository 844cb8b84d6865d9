//! One key from another: HKDF with SHA-256 (RFC 5869).
//!
//! `extract` (section 2.2) makes a uniform key of a master; `expand` (section 2.3) makes one key
//! per purpose of it. Knowing one purpose's key says nothing about another's.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Most octets `expand` can give: 255 blocks of SHA-256 (RFC 5869 section 2.3).
pub const EXPAND_MAX: usize = 255 * 32;

fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .expect("INVARIANT: HMAC takes a key of any length (RFC 2104 section 3)");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// RFC 5869 section 2.2.
#[must_use]
pub fn extract(salt: &[u8], input: &[u8]) -> Zeroizing<[u8; 32]> {
    hmac(salt, &[input])
}

/// RFC 5869 section 2.3, filling `out`; `None` when it is longer than [`EXPAND_MAX`].
#[must_use]
pub fn expand(key: &[u8; 32], info: &[u8], out: &mut [u8]) -> Option<()> {
    if out.len() > EXPAND_MAX {
        return None;
    }
    let mut block = Zeroizing::new([0; 32]);
    for (i, chunk) in out.chunks_mut(32).enumerate() {
        let counter = [u8::try_from(i + 1).ok()?];
        let before: &[u8] = if i == 0 { &[] } else { &*block };
        let next = hmac(key, &[before, info, &counter]);
        chunk.copy_from_slice(next.get(..chunk.len())?);
        block = next;
    }
    Some(())
}

/// The 32-byte key of one purpose, from a master key.
#[must_use]
pub fn derive(master: &[u8; 32], purpose: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    expand(&extract(b"portcullis", master), purpose.as_bytes(), &mut *key)
        .expect("INVARIANT: 32 octets are fewer than EXPAND_MAX");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ikm: &str, salt: &str, info: &str, prk: &str, okm: &str) {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let key = extract(&bytes(salt), &bytes(ikm));
        assert_eq!(hex::encode(*key), prk);
        let mut out = vec![0; okm.len() / 2];
        expand(&key, &bytes(info), &mut out).unwrap();
        assert_eq!(hex::encode(out), okm);
    }

    #[test]
    fn rfc_5869_appendix_a_sha256() {
        check(
            &"0b".repeat(22),
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        );
        let run = |from: u8, to: u8| hex::encode((from..=to).collect::<Vec<_>>());
        check(
            &run(0x00, 0x4f),
            &run(0x60, 0xaf),
            &run(0xb0, 0xff),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        );
        check(
            &"0b".repeat(22),
            "",
            "",
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        );
    }

    #[test]
    fn too_long_is_refused() {
        assert!(expand(&[1; 32], b"", &mut [0; EXPAND_MAX]).is_some());
        assert!(expand(&[1; 32], b"", &mut [0; EXPAND_MAX + 1]).is_none());
    }
}
