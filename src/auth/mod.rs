//! Proofs of identity: passwords, one-time codes, tokens, throttles. Pure, given key, now and
//! randomness.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`vault`] | the gateway's keys: seals secrets at rest, signs the audit head |
//! | [`token`] | access tokens: JWTs signed with Ed25519 |
//! | [`password`] | passwords: Argon2id |
//! | [`totp`] | the second factor: time-based one-time codes |
//! | [`opaque`] | tokens that mean nothing but themselves: refresh tokens, tickets, join tokens |
//! | [`throttle`] | how often an account and an address may fail |
//! | [`kdf`] | one key from another |

pub mod kdf;
pub mod opaque;
pub mod password;
pub mod rate_limit;
pub mod token;
pub mod totp;
pub mod vault;

pub use rate_limit::{AttemptLimiter, Quota};
pub use token::{Claims, TokenKeys};
pub use vault::Vault;

/// Fresh random bytes from the operating system.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("INVARIANT: the operating system's random source answers; without it nothing here may go on");
    bytes
}
