//! Tries of one-time codes: who may try, and what happens after a right one. Whoever tries codes
//! has the password, so an account's quotas are small (docs/adr/0024). Whoever enrols a factor has
//! its secret, too, so that there is nothing to guess: the quotas are those of passwords.

use crate::auth::{Attempt, GuessLimiter};
use crate::broker::core::throttles::throttled_error;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::identity::known_browsers::KnownBrowsers;
use crate::domain::audit::{Action, Reason};
use crate::domain::secret::SecretString;
use crate::domain::user::{RequestSource, User};
use crate::domain::{Result, UserId};
use crate::store::ChallengePurpose;
use std::sync::Arc;

#[derive(Clone)]
pub(in crate::broker) struct CodeAttempts {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) browsers: KnownBrowsers,
    pub(in crate::broker) passwords: Arc<GuessLimiter>,
    pub(in crate::broker) codes: Arc<GuessLimiter>,
    pub(in crate::broker) enrolments: Arc<GuessLimiter>,
}

impl CodeAttempts {
    fn limiter(&self, purpose: ChallengePurpose) -> &GuessLimiter {
        match purpose {
            ChallengePurpose::Verify => &self.codes,
            ChallengePurpose::Enroll => &self.enrolments,
        }
    }

    /// Counts a try of a user's code, or the start of an enrolment.
    ///
    /// # Errors
    /// `Throttled`, which is audited.
    pub(in crate::broker) async fn acquire(
        &self,
        source: &RequestSource,
        browser: Option<&SecretString>,
        user: &User,
        purpose: ChallengePurpose,
    ) -> Result<Attempt> {
        let browser = self.browsers.find(browser, &user.email).await?;
        let attempt = Attempt::new(&user.id.to_string(), source.source_ip, browser);
        match self.limiter(purpose).acquire(&attempt, self.store.now()) {
            Ok(admission) => {
                if admission.empties_account {
                    let entry = self
                        .store
                        .entry(source, Action::SignInSlowed)
                        .in_organization(user.organization_id)
                        .on_user(user)
                        .denied(Reason::TooManyTries)
                        .with("step", "code");
                    self.store.write_entry(entry).await?;
                }
                Ok(attempt)
            }
            Err(wait) => {
                let entry = self
                    .store
                    .entry(source, Action::MfaFailed)
                    .by_user(user)
                    .on_user(user)
                    .denied(Reason::TooManyTries);
                self.store.audit_unauthenticated(source, entry).await?;
                Err(throttled_error(wait))
            }
        }
    }

    /// The code was right: neither this client's codes nor its passwords count any more. Returns how
    /// many wrong codes were entered by anybody since the user last signed in.
    pub(in crate::broker) fn accepted(
        &self,
        attempt: &Attempt,
        user: &User,
        purpose: ChallengePurpose,
    ) -> u32 {
        let limiter = self.limiter(purpose);
        limiter.give_back(attempt, self.store.now());
        self.passwords.forget(&attempt.of_account(&user.email));
        limiter.forget(attempt)
    }

    /// The password was changed: whoever tried codes needs the new one.
    pub(in crate::broker) fn forget_account(&self, user: UserId) {
        self.codes.forget_account(&Attempt::new(&user.to_string(), None, None));
    }
}
