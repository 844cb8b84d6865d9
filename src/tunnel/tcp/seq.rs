//! Sequence numbers, modulo 2^32 (RFC 9293, section 3.4): only numbers less than 2^31 apart are
//! ordered.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Seq(pub(super) u32);

impl Seq {
    pub(super) fn plus(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// Distance from an earlier number.
    pub(super) fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    pub(super) fn before(self, other: Self) -> bool {
        (self.since(other) as i32) < 0
    }

    pub(super) fn after(self, other: Self) -> bool {
        other.before(self)
    }

    pub(super) fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_across_the_wrap() {
        for base in [0, 5, u32::MAX - 3, u32::MAX / 2] {
            let (a, b) = (Seq(base), Seq(base).plus(7));
            assert!(a.before(b) && b.after(a) && !a.after(b) && !a.before(a));
            assert_eq!((a.max(b), b.since(a)), (b, 7));
        }
    }
}
