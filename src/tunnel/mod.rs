//! WireGuard in user space: boringtun and smoltcp, one UDP port, one owner task per tunnel.
