//! Helpers that tests share.

#[macro_use]
pub mod db;
pub mod app;
pub mod bytewise;
pub mod client;
pub mod fake_fleet;
pub mod fake_rdp;
pub mod logs;
pub mod pdeathsig;
pub mod process_guard;
pub mod shadow;
pub mod vnc;
pub mod xfreerdp;
pub mod xrdp;

/// A port of loopback that nobody has, TCP and UDP: for servers that must come back on the same
/// one.
///
/// Not one that the kernel would hand out: between two lives of a server it would be anybody's. So
/// it lies below the range of those (`ip_local_port_range`, from 32768), and for as long as this
/// process lives a socket in the abstract namespace tells other test runs that it is taken.
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
