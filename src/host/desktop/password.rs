//! A session's VNC password, and the file the server reads it from.
//!
//! VNC authentication uses eight characters only, so all eight are drawn from 64: 48 bits, for one
//! session, behind a tunnel and a socket that only the agent can open. The file holds the password
//! encrypted with a well-known key, which protects nothing: its mode, 0600, does.

use crate::domain::secret::SecretString;
use des::Des;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

const LENGTH: usize = 8;
/// 64 of them, so that six random bits choose one without bias.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The well-known key of password files; VNC's DES reverses the bits of each byte.
const FILE_KEY: [u8; 8] = [23, 82, 107, 6, 35, 78, 88, 7];

/// A new password.
///
/// # Errors
/// When the system gives no randomness.
pub fn generate() -> Result<SecretString, getrandom::Error> {
    let mut random = Zeroizing::new([0_u8; LENGTH]);
    getrandom::fill(random.as_mut())?;
    Ok(SecretString::new(
        random.iter().map(|&byte| char::from(ALPHABET[usize::from(byte & 63)])).collect(),
    ))
}

/// Content of the password file: the password, padded with zeros, as one DES block.
#[must_use]
pub fn password_file(password: &SecretString) -> [u8; 8] {
    let mut block = Array::from([0_u8; 8]);
    for (to, from) in block.iter_mut().zip(password.expose().bytes()) {
        *to = from;
    }
    Des::new(&Array::from(FILE_KEY.map(u8::reverse_bits))).encrypt_block(&mut block);
    block.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_tigervncpasswd_writes() {
        assert_eq!(
            password_file(&SecretString::new("vncpass1".to_owned())),
            [0x26, 0x5a, 0x14, 0xa0, 0x71, 0x8c, 0xeb, 0x37]
        );
    }

    #[test]
    fn passwords_are_eight_of_the_alphabet_and_never_the_same() {
        let many: std::collections::HashSet<String> =
            (0..200).map(|_| generate().unwrap().expose().clone()).collect();
        assert_eq!(many.len(), 200);
        assert!(
            many.iter().all(|one| one.len() == 8 && one.bytes().all(|b| ALPHABET.contains(&b)))
        );
    }
}
