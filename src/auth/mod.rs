//! Proofs of identity: passwords, one-time codes, tokens, throttles. Pure, given key, now and randomness.

/// The gateway's keys: seals secrets at rest, signs tokens and the audit head.
#[derive(Clone)]
pub struct Vault {}
