//! Verification of the whole audit log, page by page, against its signed head.

use super::database::Store;
use super::transaction::Tx;
use crate::domain::audit::{ChainFault, Head, Verifier};
use crate::domain::{Error, Result};

const PAGE_SIZE: usize = 1000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainReport {
    /// Intact entries from the first on.
    pub entries: i64,
    /// The head they were compared with.
    pub head: Head,
    /// The first fault; `None`: the log is intact.
    pub fault: Option<ChainFault>,
}

impl Store {
    /// Verifies every entry up to the present head, in constant memory. Entries written meanwhile
    /// are ignored.
    ///
    /// # Errors
    /// When the log cannot be read; a fault within it is not an error but a [`ChainFault`].
    pub async fn verify_chain(&self) -> Result<ChainReport> {
        let (head, last) = self
            .read(|tx| Ok((tx.audit_head()?, tx.audit_seq_range()?.map_or(0, |(_, last)| last))))
            .await?;
        let mut chain = Verifier::default();
        let fault = self.first_fault(&mut chain, &head, last).await?;
        Ok(ChainReport { entries: chain.entries(), head, fault })
    }

    async fn first_fault(
        &self,
        chain: &mut Verifier,
        head: &Head,
        last: i64,
    ) -> Result<Option<ChainFault>> {
        let signer = self.signer().ok_or_else(|| {
            Error::internal("the store was opened without a signer for the audit log")
        })?;
        if !signer.verify(&Head::signed_text(head.seq, &head.hash), &head.signature) {
            return Ok(Some(ChainFault::BadHead {
                detail: "its signature is not this gateway's".to_owned(),
            }));
        }
        let up_to = head.seq;
        // From the lowest number, so that an entry inserted before the first one is found too.
        let mut after = i64::MIN;
        loop {
            let rows =
                self.read(move |tx: &mut Tx<'_>| tx.audit_rows(after, up_to, PAGE_SIZE)).await?;
            let Some(newest) = rows.last().map(|row| row.seq) else { break };
            after = newest;
            for row in rows {
                let seq = row.seq;
                // A row that does not parse was changed.
                let checked = row
                    .into_entry()
                    .map_err(|_| ChainFault::Changed { seq })
                    .and_then(|entry| chain.push(&entry));
                if let Err(fault) = checked {
                    return Ok(Some(fault));
                }
            }
        }
        let end = chain.finish(head).err();
        Ok(end.or((last > head.seq).then_some(ChainFault::BeyondHead { seq: head.seq + 1 })))
    }
}
