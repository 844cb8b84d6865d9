//! Search transactions. What may read many rows is a method of [`SearchTx`] alone, so that the
//! compiler keeps it on the connections of searches.
//!
//! A statement reads at most about [`WINDOW`] rows and says where the next one goes on: between two
//! statements others get the connection, and a search that nobody waits for any more ends. Neither
//! needs an interrupt, which diesel does not offer for SQLite.

use super::connection::AccessMode;
use super::database::Store;
use super::time_spans::TimeSpans;
use super::transaction::{Tx, run_transaction};
use super::work::Work;
use crate::domain::Result;
use std::ops::{Deref, DerefMut};

/// Rows that one statement of a search reads at most: some milliseconds.
pub const WINDOW: usize = 4096;

/// A read transaction of a search.
pub struct SearchTx<'a, 'tx> {
    tx: &'a mut Tx<'tx>,
    pub(super) spans: &'a TimeSpans,
}

impl<'tx> Deref for SearchTx<'_, 'tx> {
    type Target = Tx<'tx>;
    fn deref(&self) -> &Tx<'tx> {
        self.tx
    }
}

impl<'tx> DerefMut for SearchTx<'_, 'tx> {
    fn deref_mut(&mut self) -> &mut Tx<'tx> {
        self.tx
    }
}

impl std::fmt::Debug for SearchTx<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SearchTx")
    }
}

impl Store {
    /// Runs one statement or few of a search, in a read transaction.
    ///
    /// # Errors
    /// The error of `f`; `Unavailable` when no connection is free in time.
    pub async fn search<T, F>(&self, f: F) -> Result<T>
    where
        F: Fn(&mut SearchTx<'_, '_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let spans = self.spans.clone();
        self.pools
            .run(Work::Search, move |conn| {
                run_transaction(conn, AccessMode::Read, None, &|tx| {
                    f(&mut SearchTx { tx, spans: &spans })
                })
            })
            .await
    }
}
