//! Authentication: passwords, one-time codes, tokens, rate limits, sealing. Pure functions of key,
//! time and randomness.
//!
//! | file | content |
//! | --- | --- |
//! | [`vault`] | the gateway's keys: seals secrets at rest, signs the audit head |
//! | [`token`] | access tokens: JWTs signed with Ed25519 |
//! | [`password`] | passwords: Argon2id |
//! | [`totp`] | the second factor: time-based one-time codes |
//! | [`opaque`] | random tokens: refresh tokens, tickets, join tokens |
//! | [`rate_limit`] | attempts per account and per address |
//! | [`kdf`] | key derivation |

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

/// Random bytes from the operating system.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("INVARIANT: the operating system's random source answers; without it nothing here may go on");
    bytes
}
