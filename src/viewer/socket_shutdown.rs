//! The means to end a browser's TCP connection from outside. actix has none: a connection whose
//! browser reads nothing more is kept, with its write buffer, until the browser goes away by
//! itself; but a cut must hold within a second.
//!
//! [`on_connect`] (for `HttpServer::on_connect`) puts a [`SocketShutdown`] beside each connection; the
//! stream's handler takes it from there (`request.conn_data::<Hangup>()`).

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use rustix::net::{Shutdown, shutdown};
use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A second handle of a connection's socket. While it lives, the socket does; it goes with the
/// connection and its streams.
#[derive(Clone, Debug)]
pub struct SocketShutdown(Arc<OwnedFd>);

impl SocketShutdown {
    /// Of a socket.
    ///
    /// # Errors
    /// When there are no more file descriptors.
    pub fn new(socket: &impl AsFd) -> std::io::Result<Self> {
        Ok(Self(Arc::new(socket.as_fd().try_clone_to_owned()?)))
    }

    /// Ends the connection in both directions: nothing more is sent beyond what the kernel has,
    /// whoever still holds the socket.
    pub(super) fn shut_down(&self) {
        // It may have ended before; that is as good.
        let _ = shutdown(&*self.0, Shutdown::Both);
    }
}

/// Prepares a connection, plain or TLS, for streams: keeps a [`SocketShutdown`] with it, and sends small
/// frames at once (keys and cursors must not wait for the acknowledgement of what went before).
pub fn on_connect(connection: &dyn Any, data: &mut Extensions) {
    let plain = connection.downcast_ref::<TcpStream>();
    let tls = || {
        connection
            .downcast_ref::<actix_tls::accept::rustls_0_23::TlsStream<TcpStream>>()
            .map(|tls| tls.get_ref().0)
    };
    let ours = || {
        connection
            .downcast_ref::<tokio_rustls::server::TlsStream<TcpStream>>()
            .map(|tls| tls.get_ref().0)
    };
    let Some(socket) = plain.or_else(ours).or_else(tls) else { return };
    // Neither is needed for a connection to work.
    let _ = socket.set_nodelay(true);
    if let Ok(hangup) = SocketShutdown::new(socket) {
        data.insert(hangup);
    }
}
