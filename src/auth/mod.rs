//! Proofs of identity: passwords, one-time codes, tokens, throttles. Pure, given key, now and randomness.
