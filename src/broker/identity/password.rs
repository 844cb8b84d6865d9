//! First factor: passwords and their rate limits.
//!
//! An unknown account, a disabled one and a wrong password give the same answer in the same time:
//! each costs one Argon2id, of a decoy where there is nothing to verify, and one try.

use crate::auth::{Attempt, GuessLimiter, opaque, password};
use crate::broker::core::hash_queue::{HashFor, HashQueue};
use crate::broker::core::settings::Settings;
use crate::broker::core::signing_keys::SigningKeys;
use crate::broker::core::throttles::throttled_error;
use crate::broker::core::unit_of_work::{AuditedStore, Decision};
use crate::broker::identity::known_browsers::KnownBrowsers;
use crate::broker::identity::tokens;
use crate::broker::model::SignIn;
use crate::domain::audit::{Action, Reason};
use crate::domain::secret::SecretString;
use crate::domain::user::{RequestSource, User};
use crate::domain::{Error, Result};
use crate::store::{Challenge, ChallengePurpose};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Maximum password length that is hashed, in bytes.
const PASSWORD_MAX: usize = 1024;

fn invalid_credentials() -> Error {
    Error::unauthenticated("Invalid credentials")
}

/// The outcome of a try.
struct Verified {
    fits: bool,
    /// The account's unknown browsers wait from now on.
    empties_account: bool,
}

#[derive(Clone)]
pub struct Passwords {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) keys: SigningKeys,
    pub(in crate::broker) settings: Arc<Settings>,
    pub(in crate::broker) limiter: Arc<GuessLimiter>,
    pub(in crate::broker) browsers: KnownBrowsers,
    pub(in crate::broker) hash_queue: HashQueue,
}

impl Passwords {
    /// Checks e-mail address and password; says whether a second factor is due. `browser` is the
    /// cookie of an earlier sign-in.
    ///
    /// # Errors
    /// `Unauthenticated` "Invalid credentials" whatever is wrong; `Throttled`; `Unavailable` when
    /// the store is.
    pub async fn sign_in(
        &self,
        source: &RequestSource,
        browser: Option<&SecretString>,
        email: &str,
        password: &SecretString,
    ) -> Result<SignIn> {
        let email = crate::broker::core::text::truncate_utf8(email.trim(), 254).to_owned();
        let now = self.store.now();
        let known_browser = self.browsers.find(browser, &email).await?;
        let attempt = Attempt::new(&email, source.source_ip, known_browser);
        if let Err(wait) = self.limiter.check(&attempt, now) {
            return self.throttle(source, &email, wait).await;
        }
        let known = {
            let email = email.clone();
            self.store.read(move |tx| tx.user_by_email(&email)).await?
        };
        let verified = match self.verify_password(&attempt, source, password, &known).await? {
            Ok(verified) => verified,
            Err(wait) => return self.throttle(source, &email, wait).await,
        };
        if verified.empties_account {
            self.audit_slowed(source, &email, known.as_ref().map(|(user, _)| user)).await?;
        }
        let refused = match &known {
            None => Some(Reason::UnknownAccount),
            Some(_) if !verified.fits => Some(Reason::WrongPassword),
            Some((user, _)) if user.disabled => Some(Reason::Disabled),
            Some(_) => None,
        };
        let (user, hash) = match (known, refused) {
            (Some(known), None) => known,
            (known, reason) => {
                let entry = self.store.entry(source, Action::LoginFailed);
                let entry = match &known {
                    Some((user, _)) => entry.by_user(user).on_user(user),
                    None => entry.by_unknown_email(&email),
                };
                self.store
                    .write_entry(entry.denied(reason.unwrap_or(Reason::UnknownAccount)))
                    .await?;
                return Err(invalid_credentials());
            }
        };
        self.complete_first_factor(source, browser, &attempt, user, hash).await
    }

    async fn throttle<T>(&self, source: &RequestSource, email: &str, wait: Duration) -> Result<T> {
        let entry = self
            .store
            .entry(source, Action::LoginThrottled)
            .by_unknown_email(email)
            .denied(Reason::TooManyTries);
        self.store.audit_unauthenticated(source, entry).await?;
        Err(throttled_error(wait))
    }

    /// Whoever tries is not the user, who is the target.
    async fn audit_slowed(
        &self,
        source: &RequestSource,
        email: &str,
        user: Option<&User>,
    ) -> Result<()> {
        let entry = self
            .store
            .entry(source, Action::SignInSlowed)
            .denied(Reason::TooManyTries)
            .with("step", "password");
        let entry = match user {
            Some(user) => entry.in_organization(user.organization_id).on_user(user),
            None => entry.by_unknown_email(email),
        };
        self.store.audit_unauthenticated(source, entry).await
    }

    /// After a correct password: completes the sign-in, or creates the challenge for the second
    /// factor.
    async fn complete_first_factor(
        &self,
        source: &RequestSource,
        browser: Option<&SecretString>,
        attempt: &Attempt,
        user: User,
        hash: String,
    ) -> Result<SignIn> {
        let now = self.store.now();
        let known_browser = self.browsers.issue(browser, user.id, &hash);
        let keys = self.keys.get().await?;
        let entry = self.store.entry(source, Action::Login);
        let settings = self.settings.clone();
        let login = tokens::NewLogin::new(source, &settings, now);
        let challenge = opaque::new_token("mfa_");
        let (challenge_id, challenge_hash) = (Uuid::new_v4(), opaque::hash(challenge.expose()));
        let refresh_hash = login.refresh_hash();
        let made = login.clone();
        let outcome = self
            .store
            .transact(move |tx| {
                // The account may have been disabled, or its password changed, since the password
                // was read.
                let unchanged = tx
                    .user_by_email(&user.email)?
                    .filter(|(now, stored)| !now.disabled && now.id == user.id && *stored == hash);
                let Some((user, _)) = unchanged else {
                    let entry =
                        entry.clone().action(Action::LoginFailed).by_user(&user).on_user(&user);
                    return tx.deny(&entry.denied(Reason::ChangedMeanwhile), invalid_credentials());
                };
                let entry = entry.clone().by_user(&user);
                let enrolled = tx.totp(user.id)?.is_some_and(|row| row.confirmed_at.is_some());
                if !enrolled && !settings.mfa_required {
                    let caller = made.insert(tx, &user, None, &refresh_hash)?;
                    tx.add_entry(&entry.on_login(made.id).with("mfa", "none"));
                    return Ok(Decision::Allowed((Some(caller), enrolled)));
                }
                tx.insert_challenge(&Challenge {
                    id: challenge_id,
                    token_hash: challenge_hash.clone(),
                    user_id: user.id,
                    purpose: if enrolled {
                        ChallengePurpose::Verify
                    } else {
                        ChallengePurpose::Enroll
                    },
                    tries: 0,
                    expires_at: now.after(settings.mfa_ttl),
                    created_at: now,
                })?;
                tx.add_entry(
                    &entry
                        .on_user(&user)
                        .with("mfa", if enrolled { "pending" } else { "to_enroll" }),
                );
                Ok(Decision::Allowed((None, enrolled)))
            })
            .await?;
        match outcome {
            (Some(caller), _) => {
                self.limiter.forget(attempt);
                let tokens = login.tokens(&keys, &self.settings, caller, known_browser)?;
                Ok(SignIn::Done(Box::new(tokens)))
            }
            (None, enrolled) => Ok(SignIn::MfaRequired {
                token: challenge,
                enrollment_required: !enrolled,
                expires_in: self.settings.mfa_ttl,
            }),
        }
    }

    /// Counts a try and verifies the password; without an account takes the same time and fails.
    /// `Err` is how long to wait. The try is counted when its turn for a hash has come, so that at
    /// most as many are under way as there are cores for it. A disabled account's right password
    /// is a wrong one, which it must not differ from.
    async fn verify_password(
        &self,
        attempt: &Attempt,
        source: &RequestSource,
        password: &SecretString,
        account: &Option<(User, String)>,
    ) -> Result<std::result::Result<Verified, Duration>> {
        let too_long = password.expose().len() > PASSWORD_MAX;
        let password = if too_long { SecretString::new(String::new()) } else { password.clone() };
        let who = if attempt.is_from_known_browser() {
            HashFor::Known
        } else {
            HashFor::Unknown(source.source_ip)
        };
        let (limiter, store, attempt) = (self.limiter.clone(), self.store.clone(), attempt.clone());
        let enabled = account.as_ref().is_some_and(|(user, _)| !user.disabled);
        let hash = account.as_ref().map(|(_, hash)| hash.clone());
        let work = move || {
            let empties_account = limiter.acquire(&attempt, store.now())?.empties_account;
            let fits = match hash {
                Some(hash) => password::verify(&password, &hash) && !too_long,
                None => password::verify_dummy(&password),
            };
            if fits && enabled {
                limiter.give_back(&attempt, store.now());
            }
            Ok(Verified { fits, empties_account: empties_account && !fits })
        };
        self.hash_queue.run(who, work).await
    }

    /// Number of Argon2id computations; tests compare the cost of sign-ins by it.
    #[doc(hidden)]
    #[must_use]
    pub fn hash_count(&self) -> u64 {
        self.hash_queue.count()
    }
}
