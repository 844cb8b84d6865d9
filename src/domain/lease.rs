//! The proof that a stream may be opened. It carries its target, so that whoever dials cannot
//! resolve another.

use super::policy::StreamPermit;
use super::route::SessionRoute;
use super::session::Session;
use super::upstream::Upstream;
use std::net::IpAddr;

/// A lease: made from a [`StreamPermit`], which only policy makes. `dial` takes it and nothing
/// else.
#[derive(Debug)]
pub struct Lease {
    session: Session,
    upstream: Upstream,
}

impl Lease {
    /// Grants the lease of a permitted stream to a server as it is known at this moment.
    #[must_use]
    pub fn grant(permit: StreamPermit, upstream: Upstream) -> Self {
        Self { session: permit.session().clone(), upstream }
    }

    /// The session; its id is also its tunnel's.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Which way the stream goes.
    #[must_use]
    pub fn route(&self) -> &SessionRoute {
        &self.session.route
    }

    /// The desktop's address inside the session's tunnel.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.session.address
    }

    /// The desktop's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.upstream.port
    }

    /// The server at that port: what is proved to it, how it proves itself, what may pass.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}
