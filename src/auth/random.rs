//! Randomness.

/// Random bytes from the operating system.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("INVARIANT: the operating system's random source answers; without it nothing here may go on");
    bytes
}
