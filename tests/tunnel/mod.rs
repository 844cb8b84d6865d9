//! Tunnels: hubs over loopback, and peers on a simulated network.

mod faults;
mod flood;
mod live;
mod peers;
mod simnet;
