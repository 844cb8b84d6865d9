//! A permitted reader of the audit log.

use crate::broker::core::log_search::SearchSlot;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::domain::audit::{Entry, ExportedEntry, Head};
use crate::domain::{OrganizationId, Result};
use crate::store::AuditFilter;

/// Entries per page of an export.
pub(in crate::broker) const PAGE_SIZE: usize = 500;

/// A permitted reader: oldest first for the whole log, newest first for a query.
pub struct AuditExport {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) after: i64,
    /// Whose entries are shown; `None`: everybody's.
    pub(in crate::broker) organization: Option<OrganizationId>,
    pub(in crate::broker) filter: Option<AuditFilter>,
    /// The head when the export began, which is where it ends.
    pub head: Head,
    /// Held until the download ends.
    pub(in crate::broker) _slot: SearchSlot,
}

impl AuditExport {
    /// The next page (up to 500); empty at the end. Of the whole log, entries of other organizations
    /// are withheld, so that its chain can be verified.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next(&mut self) -> Result<Vec<ExportedEntry>> {
        let organization = self.organization;
        let entries = match self.filter.clone() {
            Some(filter) => self.next_matching(filter).await?,
            None => self.next_of_log().await?,
        };
        Ok(entries.into_iter().map(|entry| entry.for_reader(organization)).collect())
    }

    async fn next_matching(&mut self, mut filter: AuditFilter) -> Result<Vec<Entry>> {
        let organization = self.organization;
        loop {
            let sought = filter.clone();
            let step = self.store.search(move |tx| tx.audit_window(organization, &sought));
            let window = step.await?;
            // No entry is before the first one.
            filter.before_seq = Some(window.next.unwrap_or(i64::MIN));
            if !window.entries.is_empty() || window.next.is_none() {
                self.filter = Some(filter);
                return Ok(window.entries);
            }
        }
    }

    async fn next_of_log(&mut self) -> Result<Vec<Entry>> {
        let (after, end) = (self.after, self.head.seq);
        if after >= end {
            return Ok(Vec::new());
        }
        let store = self.store.clone();
        let mut page = store.search(move |tx| tx.audit_entries_after(after, PAGE_SIZE)).await?;
        page.retain(|entry| entry.seq <= end);
        self.after = page.last().map_or(end, |entry| entry.seq);
        Ok(page)
    }
}
