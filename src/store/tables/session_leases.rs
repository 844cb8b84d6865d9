//! Leases of live sessions: how to reach a session's desktop, sealed, so that a restarted gateway
//! finds it again. Gone when the session is over.

use crate::domain::{Result, SessionId};
use crate::store::Tx;
use crate::store::schema::{session_leases, sessions};
use diesel::prelude::*;

/// A lease as stored.
#[derive(Queryable, Selectable, Clone, PartialEq, Eq, Debug)]
#[diesel(table_name = session_leases)]
pub struct LeaseRow {
    /// The host's public key in the tunnel of the session's stream, standard base64; empty where
    /// there is no tunnel.
    pub peer_public_key: String,
    /// The preshared key of the session's own tunnel, sealed; of nothing where it has none.
    pub psk_sealed: String,
    /// The desktop's port.
    pub port: i32,
    /// What the gateway proves to the desktop, sealed.
    pub credential_sealed: String,
    /// SHA-256 of the certificate the desktop was started with, hex; `None`: it has none of its
    /// own.
    pub certificate: Option<String>,
}

impl Tx<'_> {
    /// Keeps how to reach a session's desktop, in place of what was kept before; also writes the
    /// session's `peer_public_key`.
    pub fn set_session_lease(&mut self, id: SessionId, lease: &LeaseRow) -> Result<()> {
        let key = id.to_string();
        diesel::delete(session_leases::table.find(&key)).execute(self.conn)?;
        let row = (
            session_leases::session_id.eq(&key),
            session_leases::peer_public_key.eq(&lease.peer_public_key),
            session_leases::psk_sealed.eq(&lease.psk_sealed),
            session_leases::port.eq(lease.port),
            session_leases::credential_sealed.eq(&lease.credential_sealed),
            session_leases::certificate.eq(&lease.certificate),
        );
        diesel::insert_into(session_leases::table).values(row).execute(self.conn)?;
        // Where there is no tunnel, there is no key of its peer.
        let peer = Some(&lease.peer_public_key).filter(|key| !key.is_empty());
        diesel::update(sessions::table.find(&key))
            .set(sessions::peer_public_key.eq(peer))
            .execute(self.conn)?;
        Ok(())
    }

    /// How to reach a session's desktop.
    pub fn session_lease(&mut self, id: SessionId) -> Result<Option<LeaseRow>> {
        Ok(session_leases::table
            .find(id.to_string())
            .select(LeaseRow::as_select())
            .first(self.conn)
            .optional()?)
    }
}
