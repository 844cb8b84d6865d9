//! First factor: passwords and their rate limits.
//!
//! An unknown account, a disabled one and a wrong password give the same answer in the same time:
//! each costs one Argon2id, of a decoy where there is nothing to verify. Hashing is expensive by
//! design, so it uses half the cores and a bounded queue: a burst of sign-ins gets "try again", and
//! streams keep their cores.

use crate::auth::AttemptLimiter;
use crate::auth::{opaque, password};
use crate::broker::Broker;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::identity::tokens;
use crate::broker::model::SignIn;
use crate::domain::audit::Action;
use crate::domain::rate_limit::Quota;
use crate::domain::secret::SecretString;
use crate::domain::user::{RequestSource, User};
use crate::domain::{Error, ErrorKind, Result, Timestamp};
use crate::store::{Challenge, ChallengePurpose};
use std::sync::atomic::Ordering;
use std::time::Duration;
use uuid::Uuid;

/// Requests that may wait for a password hash.
pub(in crate::broker) const HASH_QUEUE_LEN: usize = 32;
const HASH_QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum password length that is hashed, in bytes.
const PASSWORD_MAX: usize = 1024;

/// Passwords: ten attempts per account, then two a minute; a hundred per address, then one a
/// second.
pub(in crate::broker) fn password_limiter() -> AttemptLimiter {
    AttemptLimiter::new(
        Quota { burst: 10, interval: Duration::from_secs(30) },
        Quota { burst: 100, interval: Duration::from_secs(1) },
    )
}

/// One-time codes: ten attempts per account, then two a minute. With three valid codes in a
/// million, guessing takes months.
pub(in crate::broker) fn otp_limiter() -> AttemptLimiter {
    AttemptLimiter::new(
        Quota { burst: 10, interval: Duration::from_secs(30) },
        Quota { burst: 100, interval: Duration::from_secs(1) },
    )
}

/// Audit entries about unauthenticated requests: thirty per action and address, then one in ten
/// seconds; twice that per address over all actions.
pub(in crate::broker) fn audit_limiter() -> AttemptLimiter {
    AttemptLimiter::new(
        Quota { burst: 30, interval: Duration::from_secs(10) },
        Quota { burst: 60, interval: Duration::from_secs(5) },
    )
}

/// Concurrent password hashes: half the cores, at least one.
pub(in crate::broker) fn hash_concurrency() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get() / 2).max(1)
}

fn invalid_credentials() -> Error {
    Error::unauthenticated("Invalid credentials")
}

pub(in crate::broker) fn throttled_error(wait: Duration) -> Error {
    Error::new(ErrorKind::Throttled(wait), "Too many tries. Wait a moment, then try again.")
}

impl Broker {
    /// Checks e-mail address and password; says whether a second factor is due.
    ///
    /// # Errors
    /// `Unauthenticated` "Invalid credentials" whatever is wrong; `Throttled`; `Unavailable` when
    /// the store is.
    pub async fn login(
        &self,
        origin: &RequestSource,
        email: &str,
        password: &SecretString,
    ) -> Result<SignIn> {
        let email = crate::broker::core::text::truncate_utf8(email.trim(), 254).to_owned();
        let now = self.now();
        if let Err(wait) = self.inner.password_limiter.check(&email, origin.source_ip, now) {
            let note = self
                .audit_entry(origin, Action::LoginThrottled)
                .by_unknown_email(&email)
                .denied("too_many_tries");
            self.audit_unauthenticated(origin, note).await?;
            return Err(throttled_error(wait));
        }
        let known = {
            let email = email.clone();
            self.inner.store.read(move |tx| tx.user_by_email(&email)).await?
        };
        let fits =
            self.verify_password(password, known.as_ref().map(|(_, hash)| hash.clone())).await?;
        let refused = match &known {
            None => Some("unknown_account"),
            Some(_) if !fits => Some("wrong_password"),
            Some((user, _)) if user.disabled => Some("disabled"),
            Some(_) => None,
        };
        let (user, hash) = match (known, refused) {
            (Some(known), None) => known,
            (known, reason) => {
                let note = self.audit_entry(origin, Action::LoginFailed);
                let note = match &known {
                    Some((user, _)) => note.by_user(user).on_user(user),
                    None => note.by_unknown_email(&email),
                };
                self.write_entry(note.denied(reason.unwrap_or("unknown_account"))).await?;
                return Err(invalid_credentials());
            }
        };
        self.complete_first_factor(origin, user, hash, now).await
    }

    /// After a correct password: completes the sign-in, or creates the challenge for the second
    /// factor.
    async fn complete_first_factor(
        &self,
        origin: &RequestSource,
        user: User,
        hash: String,
        now: Timestamp,
    ) -> Result<SignIn> {
        let keys = self.keys().await?;
        let note = self.audit_entry(origin, Action::Login);
        let settings = self.inner.settings.clone();
        let login = tokens::NewLogin::new(origin, &settings, now);
        let challenge = opaque::new_token("mfa_");
        let (challenge_id, challenge_hash) = (Uuid::new_v4(), opaque::hash(challenge.expose()));
        let refresh_hash = login.refresh_hash();
        let made = login.clone();
        let outcome = self
            .transact(move |book| {
                // The account may have been disabled, or its password changed, since the password
                // was read.
                let unchanged = book
                    .user_by_email(&user.email)?
                    .filter(|(now, stored)| !now.disabled && now.id == user.id && *stored == hash);
                let Some((user, _)) = unchanged else {
                    let note =
                        note.clone().action(Action::LoginFailed).by_user(&user).on_user(&user);
                    return book.deny(&note.denied("changed_meanwhile"), invalid_credentials());
                };
                let note = note.clone().by_user(&user);
                let enrolled = book.totp(user.id)?.is_some_and(|row| row.confirmed_at.is_some());
                if !enrolled && !settings.mfa_required {
                    let caller = made.insert(book, &user, None, &refresh_hash)?;
                    book.add_entry(&note.on_login(made.id).with("mfa", "none"));
                    return Ok(Ok((Some(caller), enrolled)));
                }
                book.insert_challenge(&Challenge {
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
                book.add_entry(
                    &note
                        .on_user(&user)
                        .with("mfa", if enrolled { "pending" } else { "to_enroll" }),
                );
                Ok(Ok((None, enrolled)))
            })
            .await?;
        match outcome {
            (Some(caller), _) => {
                self.inner.password_limiter.reset_account(&caller.user.email);
                Ok(SignIn::Done(login.tokens(&keys, &self.inner.settings, caller)?))
            }
            (None, enrolled) => Ok(SignIn::MfaRequired {
                token: challenge,
                enrollment_required: !enrolled,
                expires_in: self.inner.settings.mfa_ttl,
            }),
        }
    }

    /// Verifies a password; without a hash takes the same time and fails.
    async fn verify_password(&self, password: &SecretString, hash: Option<String>) -> Result<bool> {
        let too_long = password.expose().len() > PASSWORD_MAX;
        let password = if too_long { SecretString::new(String::new()) } else { password.clone() };
        let work = move || match hash {
            Some(hash) => password::verify(&password, &hash) && !too_long,
            None => password::verify_dummy(&password),
        };
        self.run_hash(work).await
    }

    /// Runs password hashing on the blocking pool, within the queue's limits.
    pub(in crate::broker) async fn run_hash<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let busy = || {
            Error::new(
                ErrorKind::Throttled(Duration::from_secs(2)),
                "Too many people sign in right now. Try again in a moment.",
            )
        };
        let waiting = self.inner.hash_queue.clone().try_acquire_owned().map_err(|_| busy())?;
        let turn = tokio::time::timeout(
            HASH_QUEUE_TIMEOUT,
            self.inner.hash_permits.clone().acquire_owned(),
        )
        .await;
        let turn = turn.map_err(|_| busy())?.map_err(Error::internal)?;
        // The permits move into the work: a client that disconnects does not stop it and must not
        // free its slot.
        let broker = self.clone();
        let work = move || {
            let before = password::computations();
            let done = work();
            broker.inner.hash_count.fetch_add(password::computations() - before, Ordering::Relaxed);
            drop((turn, waiting));
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }

    /// Number of Argon2id computations; tests compare the cost of sign-ins by it.
    #[doc(hidden)]
    #[must_use]
    pub fn hash_count(&self) -> u64 {
        self.inner.hash_count.load(Ordering::Relaxed)
    }

    pub(in crate::broker) fn mfa_failed_entry(&self, origin: &RequestSource) -> AuditEntryBuilder {
        self.audit_entry(origin, Action::MfaFailed)
    }
}
