//! Passwords: Argon2id (RFC 9106), 19 MiB, two passes, one lane; stored as a PHC string.
//!
//! A verification takes tens of milliseconds and 19 MiB: call it on the blocking pool, after the
//! rate limit.

use crate::domain::secret::SecretString;
use crate::domain::{Error, Result};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use std::cell::Cell;

/// Fewest characters of a new password (NIST SP 800-63B section 5.1.1.1).
pub const MIN_CHARS: usize = 8;
/// Most characters of a new password.
pub const MAX_CHARS: usize = 128;
/// Longest text that is hashed, in bytes.
const MAX_BYTES: usize = 4 * MAX_CHARS;

/// A hash of no known password. It is verified when there is no user, so that both refusals take
/// the same time.
const DUMMY_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$cG9ydGN1bGxpcy1kZWNveQ$QXJnb24yaWQgZGVjb3k6IG5vIHBhc3N3b3JkIGZpdHM";

thread_local! {
    static RUNS: Cell<u64> = const { Cell::new(0) };
}

/// Argon2id computations of this thread so far. Tests compare by it what two sign-ins cost, where
/// elapsed time depends on the load.
#[must_use]
pub fn computations() -> u64 {
    RUNS.get()
}

/// The parameters of one computation, which is counted.
fn argon2() -> Argon2<'static> {
    RUNS.set(RUNS.get() + 1);
    let params = Params::new(19_456, 2, 1, Some(32))
        .expect("INVARIANT: these parameters lie within RFC 9106 section 3.1");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hashes a password with a new salt.
///
/// # Errors
/// `Internal` when memory or randomness is unavailable.
pub fn hash(password: &SecretString) -> Result<String> {
    argon2()
        .hash_password(password.expose().as_bytes())
        .map(|hash: PasswordHash| hash.to_string())
        .map_err(|e| Error::internal(e.to_string()))
}

/// Whether the password matches the hash. A hash that does not parse matches no password and takes
/// as long.
#[must_use]
pub fn verify(password: &SecretString, hash: &str) -> bool {
    let attempt = password.expose().as_bytes();
    let (Ok(hash), true) = (PasswordHash::new(hash), attempt.len() <= MAX_BYTES) else {
        verify_dummy(password);
        return false;
    };
    argon2().verify_password(attempt, &hash).is_ok()
}

/// Does the work of [`verify`] when there is nothing to verify against. Always false.
pub fn verify_dummy(password: &SecretString) -> bool {
    let attempt = password.expose().as_bytes();
    // An oversized password costs the same.
    let attempt = attempt.get(..attempt.len().min(MAX_BYTES)).unwrap_or_default();
    let matches = PasswordHash::new(DUMMY_HASH)
        .is_ok_and(|hash| argon2().verify_password(attempt, &hash).is_ok());
    std::hint::black_box(matches);
    false
}

/// Whether the owner of `email` may choose this password.
///
/// # Errors
/// `Invalid` with the requirement that is not met.
pub fn check_strength(password: &str, email: &str) -> Result<()> {
    let chars = password.chars().count();
    if chars < MIN_CHARS {
        return Err(Error::invalid(format!("The password needs at least {MIN_CHARS} characters.")));
    }
    if chars > MAX_CHARS {
        return Err(Error::invalid(format!(
            "The password may have at most {MAX_CHARS} characters."
        )));
    }
    let lower = password.to_lowercase();
    let email = email.to_lowercase();
    if lower == email || email.split('@').next() == Some(&*lower) {
        return Err(Error::invalid("The password must not be the e-mail address."));
    }
    let mut distinct: Vec<char> = lower.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < 4 {
        return Err(Error::invalid("The password repeats too few characters."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::new(text.to_owned())
    }

    #[test]
    fn hashes_verify() {
        let password = secret("correct horse battery");
        let stored = hash(&password).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify(&password, &stored));
        assert!(!verify(&secret("Correct horse battery"), &stored));
        assert!(!verify(&secret(""), &stored));
        assert!(!verify(&secret(&"x".repeat(MAX_BYTES + 1)), &stored));
        assert_ne!(stored, hash(&password).unwrap());
        assert!(!verify(&password, "not a hash"));
    }

    #[test]
    fn every_refusal_costs_one_computation() {
        let stored = hash(&secret("correct horse battery")).unwrap();
        let long = "x".repeat(MAX_BYTES + 1);
        for (password, hash) in [
            ("correct horse battery", &*stored),
            ("wrong", &stored),
            ("", &stored),
            (&long, &stored),
            ("x", "not a hash"),
            (&long, ""),
        ] {
            let before = computations();
            let _ = verify(&secret(password), hash);
            assert_eq!(computations() - before, 1, "{} bytes against {hash}", password.len());
        }
        let before = computations();
        verify_dummy(&secret("x"));
        assert_eq!(computations() - before, 1);
    }

    #[test]
    fn the_dummy_is_a_real_hash() {
        let hash = PasswordHash::new(DUMMY_HASH).unwrap();
        assert!(hash.salt.is_some());
        assert_eq!(hash.hash.unwrap().as_bytes().len(), 32);
        assert!(!verify_dummy(&secret("anything")));
    }

    #[test]
    fn strength() {
        for good in ["correct horse", "Passw0rd!", "пароль-длинный"] {
            assert!(check_strength(good, "ann@example.com").is_ok(), "{good}");
        }
        for bad in [
            "",
            "short",
            "ann@example.com",
            "ANN@example.com",
            "aaaaaaaaaaaa",
            "abababab",
            &"xy1z".repeat(33),
        ] {
            assert!(check_strength(bad, "ann@example.com").is_err(), "{bad}");
        }
        assert!(check_strength("annabelle.long", "annabelle.long@example.com").is_err());
    }
}
