//! Helpers that tests share.

#[macro_use]
pub mod db;
pub mod app;
pub mod app_parts;
pub mod bytewise;
pub mod client;
pub mod fake_fleet;
pub mod fake_rdp;
pub mod forge;
pub mod http2_frames;
pub mod logs;
pub mod occupied;
pub mod pdeathsig;
pub mod process_guard;
pub mod shadow;
pub mod vnc;
pub mod wait;
pub mod xfreerdp;
pub mod xrdp;

/// A free port of loopback, TCP and UDP: for servers that restart on the same port.
///
/// It is below the ephemeral range (`ip_local_port_range`, from 32768), from which another process
/// could get it during a restart. For as long as this process runs, a socket in the abstract
/// namespace reserves it against other test runs.
pub fn free_port() -> u16 {
    use std::net::{TcpListener, UdpSocket};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    static RESERVED: std::sync::Mutex<Vec<UnixListener>> = std::sync::Mutex::new(Vec::new());
    for _ in 0..10_000 {
        let port = 12_000 + rand::random::<u16>() % 18_000;
        let name = SocketAddr::from_abstract_name(format!("portcullis-test-port-{port}")).unwrap();
        let Ok(mark) = UnixListener::bind_addr(&name) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port)).is_ok()
        {
            RESERVED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(mark);
            return port;
        }
    }
    panic!("no port is free");
}
