//! When the entries of the audit log were written, block by block: what a search by date need not
//! read.

use crate::domain::sync::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Earliest and latest time in each complete block of entries, as far as searches have met them. Entries never change. A clock that was wrong for a while is in the spans,
/// so that a search by date leaves out exactly the blocks without an entry of that date.
#[derive(Clone, Default)]
pub(super) struct TimeSpans(Arc<Mutex<HashMap<i64, (i64, i64)>>>);

/// Blocks whose span is kept: 400 million entries. Beyond, they are read again.
const SPANS_MAX: usize = 100_000;

impl TimeSpans {
    pub(super) fn get(&self, block: i64) -> Option<(i64, i64)> {
        lock(&self.0).get(&block).copied()
    }

    pub(super) fn insert(&self, block: i64, span: (i64, i64)) {
        let mut spans = lock(&self.0);
        if spans.len() < SPANS_MAX {
            spans.insert(block, span);
        }
    }
}
