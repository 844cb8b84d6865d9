//! Leases of live sessions: the sealed parameters of the connection to a session's desktop, from
//! which a restarted gateway restores it. Deleted when the session is closed.

use crate::domain::{Result, SessionId};
use crate::store::schema::{session_leases, sessions};
use crate::store::transaction::Tx;
use diesel::prelude::*;

#[derive(Queryable, Selectable, Clone, PartialEq, Eq, Debug)]
#[diesel(table_name = session_leases)]
pub struct LeaseRow {
    /// The host's public key in the tunnel of the session's stream, standard base64; empty without
    /// a tunnel.
    pub peer_public_key: String,
    /// The preshared key of the session's own tunnel, sealed; of an empty text where it has none.
    pub psk_sealed: String,
    pub port: i32,
    /// The credential for the desktop, sealed.
    pub credential_sealed: String,
    /// SHA-256 of the certificate the desktop was started with, hex; `None`: it has none of its
    /// own.
    pub certificate: Option<String>,
}

impl Tx<'_> {
    /// Replaces the lease of a session, and stores the session's `peer_public_key`.
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
        // Without a tunnel there is no peer key.
        let peer = Some(&lease.peer_public_key).filter(|key| !key.is_empty());
        diesel::update(sessions::table.find(&key))
            .set(sessions::peer_public_key.eq(peer))
            .execute(self.conn)?;
        Ok(())
    }

    pub fn session_lease(&mut self, id: SessionId) -> Result<Option<LeaseRow>> {
        Ok(session_leases::table
            .find(id.to_string())
            .select(LeaseRow::as_select())
            .first(self.conn)
            .optional()?)
    }
}
