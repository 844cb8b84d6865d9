//! Tunnels: hubs over loopback, and peers on a simulated network.

mod conditions;
mod connections;
mod flood;
mod hubs;
mod lifecycle;
mod lossy_link;
mod path_mtu;
mod peer_attacks;
mod peer_data;
mod peer_fixture;
mod peer_lifecycle;
mod simnet;
mod soak;
