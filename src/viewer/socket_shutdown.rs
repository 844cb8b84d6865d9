//! Shuts down a browser's TCP connection from outside. actix-web has no means for that: it keeps
//! the connection of a browser that does not read, with its write buffer, until the browser closes
//! it; but a revocation must hold within a second.
//!
//! [`on_connect`] (for `HttpServer::on_connect`) stores a [`SocketShutdown`] with each connection;
//! the stream's handler takes it from there (`request.conn_data::<SocketShutdown>()`).

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustix::net::{Shutdown, shutdown};
use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A second handle of a connection's socket. The socket stays open while the handle lives; it is
/// dropped with the connection and its streams.
#[derive(Clone, Debug)]
pub struct SocketShutdown(Arc<OwnedFd>);

impl SocketShutdown {
    /// Duplicates the file descriptor of a socket.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn new(socket: &impl AsFd) -> std::io::Result<Self> {
        Ok(Self(Arc::new(socket.as_fd().try_clone_to_owned()?)))
    }

    /// Shuts down both directions: nothing is sent beyond what the kernel has, whoever still holds
    /// the socket.
    pub(super) fn shut_down(&self) {
        // The connection may have ended before.
        let _ = shutdown(&*self.0, Shutdown::Both);
    }
}

/// Prepares a connection, plain or TLS, for streams: stores a [`SocketShutdown`] with it, and sets
/// TCP_NODELAY (keys and cursor updates must not wait for the acknowledgement of earlier data).
pub fn on_connect(connection: &dyn Any, data: &mut Extensions) {
    let plain = connection.downcast_ref::<TcpStream>();
    let tls = || {
        connection
            .downcast_ref::<actix_tls::accept::rustls_0_23::TlsStream<TcpStream>>()
            .map(|tls| tls.get_ref().0)
    };
    let rustls = || {
        connection
            .downcast_ref::<tokio_rustls::server::TlsStream<TcpStream>>()
            .map(|tls| tls.get_ref().0)
    };
    let Some(socket) = plain.or_else(rustls).or_else(tls) else { return };
    // The connection works without either.
    let _ = socket.set_nodelay(true);
    if let Ok(handle) = SocketShutdown::new(socket) {
        data.insert(handle);
    }
}
