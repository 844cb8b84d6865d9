//! Diesel over SQLite and PostgreSQL, and nothing else.
//!
//! | file | content |
//! | --- | --- |
//! | [`connection`] | connections to either database |
//! | `log_guard`, `witness` | what is known of the audit log outside the database, and the latch that stops all writing |
//! | `database` | [`Store`]: pools, migration at start, health check |
//! | `transaction` | [`Tx`]: commit, retry, savepoints |
//! | `pool`, [`work`] | connection pools with bounded waiting, one for each class of work |
//! | [`search`], `time_spans` | reads of many rows, a bounded number in one statement |
//! | [`error`] | mapping of database errors to [`crate::domain::Error`] |
//! | [`migrate`] | migrations |
//! | [`schema`] | the tables, for diesel |
//! | [`tables`] | each table's rows and queries, as methods of [`Tx`] |
//! | [`verify`] | verification of the whole audit log against its signed head |
//!
//! | term | meaning |
//! | --- | --- |
//! | [`Store`] | the database; cheap to clone |
//! | [`Tx`] | one transaction: all of its writes are committed, or none |
//! | compare-and-set | an update that names the expected value and says whether it matched; of two that race, one wins |
//! | sealed | a secret encrypted under the vault's master key, which the store does not have |

pub mod connection;
mod database;
pub mod error;
mod log_guard;
pub mod migrate;
mod pool;
pub mod schema;
pub mod search;
pub mod tables;
mod time_spans;
mod transaction;
pub mod verify;
mod witness;
pub mod work;

pub use database::{Purpose, Store};
pub use error::StoreError;
pub use log_guard::HeadSigner;
pub use search::SearchTx;
pub use tables::app_requests::RequestFilter;
pub use tables::audit::AuditFilter;
pub use tables::challenges::{Challenge, ChallengePurpose};
pub use tables::gateway_lease::GatewayLeaseRow;
pub use tables::logins::{Login, RefreshTokenRow};
pub use tables::purge::BATCH as PURGE_BATCH;
pub use tables::seats::SeatKey;
pub use tables::session_leases::LeaseRow;
pub use tables::sessions::StateChange;
pub use tables::tickets::TicketRow;
pub use tables::totp::TotpRow;
pub use transaction::Tx;
pub use verify::ChainReport;
pub use work::{Connections, Work};
