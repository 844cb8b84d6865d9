//! VNC authentication (section 7.2.2): the challenge is encrypted with DES, keyed by the password.
//!
//! DES is broken; it is used because every VNC server has it. It protects nothing on the wire: the
//! session's tunnel does.

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

/// Length of a challenge and of its response.
pub(super) const CHALLENGE_LEN: usize = 16;
/// Bytes of a password that are used; a longer one is truncated, a shorter one padded with zeros.
const KEY_LEN: usize = 8;

/// A password as a DES key: each byte with its bits reversed, as every server does it (the RFC does
/// not say so). Wiped on drop.
pub(super) struct VncAuthKey(Zeroizing<[u8; KEY_LEN]>);

impl VncAuthKey {
    pub(super) fn new(password: &[u8]) -> Self {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        for (key_byte, byte) in key.iter_mut().zip(password) {
            *key_byte = byte.reverse_bits();
        }
        Self(key)
    }

    /// The response to a challenge: its two blocks, each encrypted by itself.
    pub(super) fn response(&self, challenge: [u8; CHALLENGE_LEN]) -> [u8; CHALLENGE_LEN] {
        let cipher = Des::new((&*self.0).into());
        let mut response = challenge;
        for block in response.chunks_exact_mut(8) {
            if let Ok(block) = block.try_into() {
                cipher.encrypt_block(block);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected value from another program: `tigervncpasswd -f` encrypts the password with a fixed
    /// key, written below as the password that gives it.
    #[test]
    fn agrees_with_tigervncpasswd() {
        let key = VncAuthKey::new(&[23, 82, 107, 6, 35, 78, 88, 7]);
        let mut challenge = [0; CHALLENGE_LEN];
        challenge[..8].copy_from_slice(b"vncpass1");
        challenge[8..].copy_from_slice(b"vncpass1");
        let once = [0x26, 0x5a, 0x14, 0xa0, 0x71, 0x8c, 0xeb, 0x37];
        assert_eq!(key.response(challenge), [once, once].concat()[..]);
    }

    #[test]
    fn eight_bytes_of_the_password_count() {
        let challenge = *b"0123456789abcdef";
        assert_eq!(
            VncAuthKey::new(b"password").response(challenge),
            VncAuthKey::new(b"passwords").response(challenge)
        );
        assert_eq!(
            VncAuthKey::new(b"pass").response(challenge),
            VncAuthKey::new(b"pass\0\0\0\0").response(challenge)
        );
        assert_ne!(
            VncAuthKey::new(b"pass").response(challenge),
            VncAuthKey::new(b"pasS").response(challenge)
        );
    }
}
