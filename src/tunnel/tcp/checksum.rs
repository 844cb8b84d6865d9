//! The Internet checksum (RFC 1071), several words at a time.

/// Sum of 16-bit words in native byte order, not yet folded. At most 64 KiB at once, so that it
/// does not overflow.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    // Eight bytes at a time, each half into a sum of its own: the compiler vectorizes this without
    // shuffles.
    let (mut low, mut high) = ([0u64; 4], [0u64; 4]);
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for ((low, high), word) in low.iter_mut().zip(&mut high).zip(block.chunks_exact(8)) {
            let word = word.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
            *low += word & 0xffff_ffff;
            *high += word >> 32;
        }
    }
    let mut total = low.iter().sum::<u64>() + high.iter().sum::<u64>();
    let mut words = blocks.remainder().chunks_exact(2);
    for word in &mut words {
        total += u64::from(u16::from_ne_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    total
}

/// Folds the sum to 16 bits in one's complement, in native byte order.
pub(super) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_equals_the_sum_of_words(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
            let reference: u64 = bytes.chunks(2).map(|w| u64::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)]))).sum();
            prop_assert_eq!(u16::from_be_bytes(fold(sum(&bytes)).to_ne_bytes()) % 0xffff, fold(reference) % 0xffff);
        }
    }
}
