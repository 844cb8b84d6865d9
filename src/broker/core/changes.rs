//! Change notifications: what event streams and waiting tasks subscribe to, and which audit entries
//! this process wrote itself.

use crate::domain::session::Session;
use crate::domain::sync::lock;
use crate::domain::{OrganizationId, UserId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, watch};

/// Maximum number of remembered sequence numbers. Beyond it the change watcher reads entries of
/// this process too.
const OWN_SEQUENCE_NUMBERS_MAX: usize = 4096;
/// Changes a slow receiver may miss before it must refetch everything.
const CHANGE_BUFFER: usize = 256;

/// What a subscriber must fetch again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// `None`: every organization.
    pub organization_id: Option<OrganizationId>,
    /// `None`: every user of the organization.
    pub user_id: Option<UserId>,
    pub topic: Topic,
}

impl Change {
    /// Whether a subscriber must fetch the topic again. Sessions of others concern only those who
    /// may list them.
    #[must_use]
    pub fn concerns(
        &self,
        organization_id: Option<OrganizationId>,
        user_id: Option<UserId>,
        lists_all_sessions: bool,
    ) -> bool {
        let in_organization =
            self.organization_id.is_none_or(|organization| Some(organization) == organization_id);
        let for_user = self.user_id.is_none()
            || self.user_id == user_id
            || (lists_all_sessions && self.topic == Topic::Sessions);
        in_organization && for_user
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    Workspaces,
    Sessions,
    Hosts,
}

#[derive(Clone, Debug)]
pub(in crate::broker) struct Changes {
    changes: broadcast::Sender<Change>,
    revision: watch::Sender<u64>,
    audit_revision: watch::Sender<u64>,
    own_sequence_numbers: Arc<Mutex<BTreeSet<i64>>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            changes: broadcast::channel(CHANGE_BUFFER).0,
            revision: watch::channel(0).0,
            audit_revision: watch::channel(0).0,
            own_sequence_numbers: Arc::default(),
        }
    }
}

impl Changes {
    /// Publishes changes to every user of an organization, or of all.
    pub(in crate::broker) fn publish(
        &self,
        organization_id: Option<OrganizationId>,
        topics: &[Topic],
    ) {
        self.send(organization_id, None, topics);
    }

    /// Publishes a change of a session. Its owner sees it in sessions and workspaces; others of the
    /// organization see a single-seat workspace in use.
    pub(in crate::broker) fn publish_session(&self, session: &Session, single_seat: bool) {
        let (organization, owner) = (Some(session.organization_id), session.user_id());
        self.send(organization, owner, &[Topic::Sessions]);
        self.send(organization, owner.filter(|_| !single_seat), &[Topic::Workspaces]);
    }

    pub(in crate::broker) fn send(
        &self,
        organization_id: Option<OrganizationId>,
        user_id: Option<UserId>,
        topics: &[Topic],
    ) {
        for &topic in topics {
            // An error means that there is no receiver.
            let _ = self.changes.send(Change { organization_id, user_id, topic });
        }
        self.revision.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(in crate::broker) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Changes at every [`Self::send`]: for tasks that wait for a session's state.
    pub(in crate::broker) fn subscribe_revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Signals that the audit log grew. Separate from [`Self::send`], because nearly every change
    /// writes an entry: a watch channel coalesces bursts.
    pub(in crate::broker) fn notify_audit(&self) {
        self.audit_revision.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(in crate::broker) fn subscribe_audit(&self) -> watch::Receiver<u64> {
        self.audit_revision.subscribe()
    }

    /// Remembers audit entries written by this process.
    pub(in crate::broker) fn record_own(&self, sequence_numbers: &[i64]) {
        let mut own = lock(&self.own_sequence_numbers);
        own.extend(sequence_numbers);
        while own.len() > OWN_SEQUENCE_NUMBERS_MAX {
            own.pop_first();
        }
    }

    /// The sequence numbers after `last` up to `now` that this process did not write; forgets its
    /// own up to `now`.
    pub(in crate::broker) fn take_foreign(&self, last: i64, now: i64) -> Vec<i64> {
        let mut own = lock(&self.own_sequence_numbers);
        let keep = own.split_off(&now.saturating_add(1));
        let seen = std::mem::replace(&mut *own, keep);
        (last.saturating_add(1)..=now).filter(|number| !seen.contains(number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_entries_are_distinguished_from_others() {
        let changes = Changes::default();
        changes.record_own(&[1, 2, 3]);
        assert!(changes.take_foreign(0, 3).is_empty());
        assert_eq!(changes.take_foreign(3, 4), [4], "4 was not written here");
        changes.record_own(&[5, 7]);
        assert_eq!(changes.take_foreign(4, 7), [6], "6 was written elsewhere");
        changes.record_own(&[8, 9]);
        assert!(changes.take_foreign(7, 8).is_empty());
        assert!(changes.take_foreign(8, 9).is_empty(), "later ones are kept");
    }

    #[test]
    fn changes_concern_owner_and_those_who_list_all_sessions() {
        let (organization, owner, other) =
            (OrganizationId::new(), Some(UserId::new()), Some(UserId::new()));
        let change = |topic| Change { organization_id: Some(organization), user_id: owner, topic };
        let here = Some(organization);
        assert!(change(Topic::Sessions).concerns(here, owner, false));
        assert!(!change(Topic::Sessions).concerns(here, other, false));
        assert!(change(Topic::Sessions).concerns(here, other, true));
        assert!(!change(Topic::Workspaces).concerns(here, other, true));
        assert!(!change(Topic::Sessions).concerns(Some(OrganizationId::new()), owner, true));
        let shared = Change { user_id: None, ..change(Topic::Workspaces) };
        assert!(shared.concerns(here, other, false));
        let everywhere = Change { organization_id: None, ..shared };
        assert!(everywhere.concerns(None, None, false));
    }
}
