//! Packet sizes inside tunnels.

/// Largest IP packet inside a tunnel whose path is not known to carry more.
pub const MTU: usize = 1420;
/// Largest IP packet inside any tunnel: with WireGuard and IPv6 around it, it fits into a jumbo
/// frame of 9000 bytes.
pub const MTU_MAX: usize = 8920;
