//! Tunnels: live ones over loopback, and peers on a simulated network.

mod live;
mod peers;
mod simnet;
