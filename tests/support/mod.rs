//! Helpers that tests share.

#[macro_use]
pub mod db;
pub mod app;
pub mod bytewise;
pub mod client;
pub mod fake_fleet;
pub mod fake_rdp;
pub mod logs;
pub mod shadow;
pub mod tether;
pub mod vnc;
pub mod xfreerdp;
pub mod xrdp;

/// A TCP port of loopback that was free just now: for servers that must come back on the same one.
pub fn free_tcp_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The same for UDP.
pub fn free_udp_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
