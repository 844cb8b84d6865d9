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
//! | [`rate_limit`] | events per key and per address |
//! | [`guess_limiter`] | tries of passwords and codes |
//! | [`kdf`] | key derivation |

pub mod guess_limiter;
pub mod kdf;
pub mod opaque;
pub mod password;
mod random;
pub mod rate_limit;
pub mod token;
pub mod totp;
pub mod vault;

pub use guess_limiter::{Admission, Attempt, BrowserId, GuessLimiter, GuessQuotas};
pub use random::random_bytes;
pub use rate_limit::AttemptLimiter;
pub use token::{Claims, TokenKeys};
pub use vault::Vault;
