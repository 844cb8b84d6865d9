//! Entered credentials, in memory until a stream uses them.

use crate::domain::principal::PrincipalId;
use crate::domain::sync::lock;
use crate::domain::upstream::Credential;
use crate::domain::{LoginId, SessionId, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Lifetime of an entered credential that no stream has used.
const EPHEMERAL_TTL: Duration = Duration::from_secs(120);

/// Maximum number of entered credentials in memory, of all users.
const EPHEMERAL_MAX: usize = 1024;

pub(super) type CredentialKey = (SessionId, PrincipalId, Option<LoginId>);

/// Entered credentials that no stream has used yet.
#[derive(Default)]
pub(in crate::broker) struct EphemeralCredentials {
    entries: Mutex<HashMap<CredentialKey, (Credential, Timestamp)>>,
}

impl EphemeralCredentials {
    fn lock(&self) -> MutexGuard<'_, HashMap<CredentialKey, (Credential, Timestamp)>> {
        lock(&self.entries)
    }

    /// `false` when the map is full.
    pub(super) fn insert(
        &self,
        whose: CredentialKey,
        credential: Credential,
        now: Timestamp,
    ) -> bool {
        self.remove_expired(now);
        let mut waiting = self.lock();
        if waiting.len() >= EPHEMERAL_MAX && !waiting.contains_key(&whose) {
            return false;
        }
        waiting.insert(whose, (credential, now.after(EPHEMERAL_TTL)));
        true
    }

    /// Removes and returns a credential that has not expired.
    pub(super) fn take(&self, whose: CredentialKey, now: Timestamp) -> Option<Credential> {
        self.lock()
            .remove(&whose)
            .filter(|(_, until)| now < *until)
            .map(|(credential, _)| credential)
    }

    pub(in crate::broker) fn remove_expired(&self, now: Timestamp) {
        self.lock().retain(|_, (_, until)| now < *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;
    use crate::domain::secret::SecretString;

    fn key() -> CredentialKey {
        (SessionId::new(), PrincipalId::User(UserId::new()), Some(LoginId::new()))
    }

    #[test]
    fn entered_credential_is_used_once_by_its_login_and_in_time() {
        let entered = EphemeralCredentials::default();
        let (now, me) = (Timestamp(1000), key());
        let typed = || Credential::password(SecretString::new("p".to_owned()));
        assert!(entered.insert(me, typed(), now));
        assert!(entered.take((me.0, me.1, Some(LoginId::new())), now).is_none(), "another login");
        assert!(entered.take(me, now).is_some());
        assert!(entered.take(me, now).is_none(), "used");
        assert!(entered.insert(me, typed(), now));
        assert!(entered.take(me, now.after(EPHEMERAL_TTL)).is_none(), "late");
        for _ in 0..EPHEMERAL_MAX {
            assert!(entered.insert(key(), typed(), now));
        }
        assert!(!entered.insert(key(), typed(), now), "full");
        assert!(
            entered.insert(key(), typed(), now.after(EPHEMERAL_TTL)),
            "expired ones are removed"
        );
        assert_eq!(entered.lock().len(), 1);
    }
}
