//! The proof that a stream may be opened. It carries its target, so that the dialling code cannot
//! choose another.

use super::policy::StreamPermit;
use super::route::SessionRoute;
use super::session::Session;
use super::upstream::{ProtocolSettings, Upstream};
use std::net::IpAddr;

/// A lease: made from a [`StreamPermit`], which only policy makes. `dial` takes nothing else.
#[derive(Debug)]
pub struct Lease {
    session: Session,
    upstream: Upstream,
}

impl Lease {
    /// Grants the lease of a permitted stream to an upstream as it is configured at this moment.
    #[must_use]
    pub fn grant(permit: StreamPermit, upstream: Upstream) -> Self {
        Self { session: permit.session().clone(), upstream }
    }

    /// The session; its id also names its tunnel.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Has an RDP server told the browser's keyboard layout, unless the workspace names one.
    pub fn prefer_keyboard_layout(&mut self, layout: u32) {
        if let ProtocolSettings::Rdp { keyboard_layout: unset @ None } = &mut self.upstream.protocol
        {
            *unset = Some(layout);
        }
    }

    #[must_use]
    pub fn route(&self) -> &SessionRoute {
        &self.session.route
    }

    /// The upstream's address inside the session's tunnel.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.session.address
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.upstream.port
    }

    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}
