//! The proof that a stream may be opened. It carries its target, so that whoever dials cannot resolve another.

use super::policy::StreamPermit;
use super::reach::Way;
use super::secret::SecretString;
use super::session::Session;
use std::net::IpAddr;

/// A lease: made from a [`StreamPermit`], which only policy makes. `dial` takes it and nothing else.
#[derive(Debug)]
pub struct Lease {
    session: Session,
    port: u16,
    credential: SecretString,
}

impl Lease {
    /// Grants the lease of a permitted stream: `port` and `credential` are the desktop's, as stored at launch.
    #[must_use]
    pub fn grant(permit: StreamPermit, port: u16, credential: SecretString) -> Self {
        Self { session: permit.session().clone(), port, credential }
    }

    /// The session; its id is also its tunnel's.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Which way the stream goes.
    #[must_use]
    pub fn way(&self) -> &Way {
        &self.session.way
    }

    /// The desktop's address inside the session's tunnel.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.session.address
    }

    /// The desktop's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the gateway proves to the desktop.
    #[must_use]
    pub fn credential(&self) -> &SecretString {
        &self.credential
    }
}
