//! A permitted reader of the audit log.

use crate::broker::Broker;
use crate::domain::audit::{Entry, Head};
use crate::domain::{OrganizationId, Result};
use crate::store::AuditFilter;

/// Entries per page of an export.
pub(in crate::broker) const PAGE_SIZE: usize = 500;

/// A permitted reader: oldest first for the whole log, newest first for a query.
pub struct AuditExport {
    pub(in crate::broker) broker: Broker,
    pub(in crate::broker) after: i64,
    pub(in crate::broker) chosen: Option<(OrganizationId, AuditFilter)>,
    /// The head when the export began, which is where it ends.
    pub head: Head,
}

impl AuditExport {
    /// The next page (up to 500); empty at the end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next(&mut self) -> Result<Vec<Entry>> {
        if let Some((organization, filter)) = self.chosen.clone() {
            let page = self
                .broker
                .inner
                .store
                .read(move |tx| tx.audit_page(organization, &filter))
                .await?;
            if let (Some((_, filter)), Some(last)) = (&mut self.chosen, page.last()) {
                filter.before_seq = Some(last.seq);
            }
            return Ok(page);
        }
        let (after, end) = (self.after, self.head.seq);
        if after >= end {
            return Ok(Vec::new());
        }
        let mut page = self
            .broker
            .inner
            .store
            .read(move |tx| tx.audit_entries_after(after, PAGE_SIZE))
            .await?;
        page.retain(|entry| entry.seq <= end);
        self.after = page.last().map_or(end, |entry| entry.seq);
        Ok(page)
    }
}
