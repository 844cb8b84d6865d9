//! The unit of time.

/// Microseconds since the tunnel was created.
pub(in crate::tunnel) type Micros = u64;
/// One millisecond.
pub(super) const MS: Micros = 1_000;
