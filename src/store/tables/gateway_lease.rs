//! The lease of the gateway that serves from this database: one row, whose counter moves with every
//! heartbeat. The times in it are for people; nobody decides by them.

use crate::domain::{Result, Timestamp};
use crate::store::schema::gateway_lease;
use crate::store::transaction::Tx;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DbError};

/// Key of the only row.
const KEY: &str = "gateway";

/// The lease as stored.
#[derive(Queryable, Selectable, Clone, PartialEq, Eq, Debug)]
#[diesel(table_name = gateway_lease)]
pub struct GatewayLeaseRow {
    /// Random, of one process.
    pub holder: String,
    /// Names the holder to people.
    pub holder_name: String,
    /// Identifies the file that the holder keeps locked for as long as it runs.
    pub lock_id: String,
    pub acquired_at: i64,
    pub heartbeat_at: i64,
    /// Heartbeats of this holder.
    pub heartbeats: i64,
}

impl Tx<'_> {
    /// The lease, when a gateway holds it or did not release it.
    pub fn gateway_lease(&mut self) -> Result<Option<GatewayLeaseRow>> {
        Ok(gateway_lease::table
            .find(KEY)
            .select(GatewayLeaseRow::as_select())
            .first(self.conn)
            .optional()?)
    }

    /// Takes a lease that nobody holds. False: another gateway was faster.
    pub fn insert_gateway_lease(&mut self, row: &GatewayLeaseRow) -> Result<bool> {
        let inserted = self.savepoint(|conn| {
            diesel::insert_into(gateway_lease::table)
                .values((
                    gateway_lease::name.eq(KEY),
                    gateway_lease::holder.eq(&row.holder),
                    gateway_lease::holder_name.eq(&row.holder_name),
                    gateway_lease::lock_id.eq(&row.lock_id),
                    gateway_lease::acquired_at.eq(row.acquired_at),
                    gateway_lease::heartbeat_at.eq(row.heartbeat_at),
                    gateway_lease::heartbeats.eq(row.heartbeats),
                ))
                .execute(conn)
        });
        match inserted {
            Ok(_) => Ok(true),
            Err(DbError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lease from its holder, unless that has renewed or lost it since `previous` was
    /// read: then false.
    pub fn replace_gateway_lease(
        &mut self,
        previous: &GatewayLeaseRow,
        row: &GatewayLeaseRow,
    ) -> Result<bool> {
        let changed = diesel::update(gateway_lease::table.find(KEY))
            .filter(gateway_lease::holder.eq(&previous.holder))
            .filter(gateway_lease::heartbeats.eq(previous.heartbeats))
            .set((
                gateway_lease::holder.eq(&row.holder),
                gateway_lease::holder_name.eq(&row.holder_name),
                gateway_lease::lock_id.eq(&row.lock_id),
                gateway_lease::acquired_at.eq(row.acquired_at),
                gateway_lease::heartbeat_at.eq(row.heartbeat_at),
                gateway_lease::heartbeats.eq(row.heartbeats),
            ))
            .execute(self.conn)?;
        Ok(changed == 1)
    }

    /// A heartbeat of the holder. False: it does not hold the lease any more.
    pub fn renew_gateway_lease(&mut self, holder: &str, now: Timestamp) -> Result<bool> {
        let changed = diesel::update(gateway_lease::table.find(KEY))
            .filter(gateway_lease::holder.eq(holder))
            .set((
                gateway_lease::heartbeats.eq(gateway_lease::heartbeats + 1),
                gateway_lease::heartbeat_at.eq(now.0),
            ))
            .execute(self.conn)?;
        Ok(changed == 1)
    }

    /// Gives the lease up, when `holder` still has it.
    pub fn release_gateway_lease(&mut self, holder: &str) -> Result<()> {
        diesel::delete(gateway_lease::table.find(KEY))
            .filter(gateway_lease::holder.eq(holder))
            .execute(self.conn)?;
        Ok(())
    }
}
