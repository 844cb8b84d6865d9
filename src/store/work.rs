//! Classes of database work, and their connections: a call waits only for calls of its own class.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`Work`] | what a call of the store is for |
//! | [`Connections`] | how many connections each class has |
//! | statement limit | the longest time that PostgreSQL spends on one statement; a statement on SQLite is bounded by the rows it reads ([`super::search`]) |

use std::time::Duration;

/// Longest wait for a connection.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a call of the store is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Reads that decide: authorization of requests, sign-in, tickets, health, the end of sessions,
    /// and the jobs behind them. Each looks a few rows up by an index.
    Control,
    /// Changes. SQLite has one connection for them.
    Change,
    /// Lists that pages show: as long as an organization has workspaces, users, hosts or sessions.
    Listing,
    /// Search, export and verification of logs, which have any number of rows.
    Search,
}

impl Work {
    /// PostgreSQL's limit of one statement. The client's wait for a connection, and the next
    /// heartbeat of the gateway's lease, are longer than one of `Control`.
    pub(super) const fn statement_limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Control => 4,
            Self::Change => 20,
            Self::Listing => 10,
            Self::Search => 5,
        })
    }

    /// SQLite's page cache of one connection, KiB. Who reads a log from end to end meets no page
    /// again.
    pub(super) const fn cache_kib(self) -> u32 {
        match self {
            Self::Control => 8 * 1024,
            Self::Change => 16 * 1024,
            Self::Listing => 4 * 1024,
            Self::Search => 2 * 1024,
        }
    }
}

/// Connections of each class, opened on first use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connections {
    pub control: u32,
    /// On PostgreSQL.
    pub change: u32,
    pub listing: u32,
    pub search: u32,
    /// Longest wait for one of them.
    pub wait: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self { control: 6, change: 6, listing: 4, search: 2, wait: ACQUIRE_TIMEOUT }
    }
}
