//! Key derivation: HKDF with SHA-256 (RFC 5869), one key per purpose. A key of one purpose reveals
//! nothing about the others or the master key.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

const SALT: &[u8] = b"portcullis";

/// The 32-byte key of one purpose.
#[must_use]
pub fn derive(master: &[u8; 32], purpose: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(SALT), master)
        .expand(purpose.as_bytes(), &mut *key)
        .expect("INVARIANT: 32 octets are fewer than HKDF-SHA-256 can expand to");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of existing installations, computed independently: a changed derivation would lock
    /// everybody out.
    #[test]
    fn derived_keys_never_change() {
        let sequence: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        for (master, purpose, key) in [
            (
                [7; 32],
                "portcullis seal v1",
                "22e42c5da0731bde37c1c1966c4dd380efdf030e9931b03ba31b9e19c24364da",
            ),
            (
                [7; 32],
                "portcullis audit head v1",
                "b2a8e01d046b159b7116cc7ccd65de72a6f2882a7b0af200490ba7dd5a159cde",
            ),
            (
                [7; 32],
                "portcullis key check v1",
                "4694b9d3c04b22d64d6435aa3eaea0598e2920eba416ba173f7ab868187922e6",
            ),
            (
                sequence,
                "portcullis seal v1",
                "b3c938fb27712eb5d1102801f375910c3bc770e667c52061931d1adb0d536cbc",
            ),
        ] {
            assert_eq!(hex::encode(*derive(&master, purpose)), key, "{purpose}");
        }
    }

    fn check(ikm: &str, salt: &str, info: &str, prk: &str, okm: &str) {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let (key, hkdf) = Hkdf::<Sha256>::extract(Some(&bytes(salt)), &bytes(ikm));
        assert_eq!(hex::encode(key), prk);
        let mut out = vec![0; okm.len() / 2];
        hkdf.expand(&bytes(info), &mut out).unwrap();
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
}
