//! The first factor, and what stands before it.
//!
//! An unknown account, a disabled one and a wrong password get the same answer in the same time:
//! each costs one Argon2id, a decoy where there is nothing to verify. Hashing is dear on purpose,
//! so only half the cores work on it and few may wait: a storm of sign-ins gets "try again", and
//! everybody's streams keep their cores.

use super::record::AuditEntryBuilder;
use super::views::SignIn;
use super::{Broker, tokens};
use crate::auth::rate_limit::{AttemptLimiter, Quota};
use crate::auth::{opaque, password};
use crate::domain::audit::Action;
use crate::domain::secret::SecretString;
use crate::domain::user::{RequestSource, User};
use crate::domain::{Error, ErrorKind, Result, Timestamp};
use crate::store::{Challenge, ChallengePurpose};
use std::sync::atomic::Ordering;
use std::time::Duration;
use uuid::Uuid;

/// Sign-ins whose password may wait to be hashed.
pub(super) const HASH_QUEUE_LEN: usize = 32;
/// Longest wait for a turn.
const HASH_QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest password looked at, in bytes: more is no password, and hashing it no service.
const PASSWORD_MAX: usize = 1024;

/// Passwords: ten guesses for an account, then two a minute; a hundred for an address, then one a
/// second.
pub(super) fn password_limiter() -> AttemptLimiter {
    AttemptLimiter::new(
        Quota { burst: 10, interval: Duration::from_secs(30) },
        Quota { burst: 100, interval: Duration::from_secs(1) },
    )
}

/// Codes: ten guesses for an account, then two a minute. With three of a million codes valid, a
/// guesser needs months.
pub(super) fn otp_limiter() -> AttemptLimiter {
    AttemptLimiter::new(
        Quota { burst: 10, interval: Duration::from_secs(30) },
        Quota { burst: 100, interval: Duration::from_secs(1) },
    )
}

/// Entries about strangers: per action and address thirty, then one in ten seconds; per address
/// over all actions twice that.
pub(super) fn audit_limiter() -> AttemptLimiter {
    AttemptLimiter::new(
        Quota { burst: 30, interval: Duration::from_secs(10) },
        Quota { burst: 60, interval: Duration::from_secs(5) },
    )
}

/// Password hashes worked on at once: half the cores, at least one.
pub(super) fn hash_concurrency() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get() / 2).max(1)
}

/// The one answer to every failed sign-in.
fn invalid_credentials() -> Error {
    Error::unauthenticated("Invalid credentials")
}

/// What to tell somebody who tries too often.
pub(super) fn throttled_error(wait: Duration) -> Error {
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
        let email = super::record::truncate_utf8(email.trim(), 254).to_owned();
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

    /// The password was right: a login when that is enough, else a challenge for what is missing.
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
                // Since the password was read, the account may have been disabled or the password
                // changed.
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

    /// Whether the password fits the hash; with no hash, takes as long and says no.
    async fn verify_password(&self, password: &SecretString, hash: Option<String>) -> Result<bool> {
        let too_long = password.expose().len() > PASSWORD_MAX;
        let password = if too_long { SecretString::new(String::new()) } else { password.clone() };
        let work = move || match hash {
            Some(hash) => password::verify(&password, &hash) && !too_long,
            None => password::verify_dummy(&password),
        };
        self.run_hash(work).await
    }

    /// Runs password work on the blocking pool, when its turn comes.
    pub(super) async fn run_hash<T: Send + 'static>(
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
        // The turn goes with the work: a browser that hangs up does not stop it, and must not make
        // room for another.
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

    /// Argon2id computations done so far: tests compare by it what sign-ins cost.
    #[doc(hidden)]
    #[must_use]
    pub fn hash_count(&self) -> u64 {
        self.inner.hash_count.load(Ordering::Relaxed)
    }

    /// A sign-in that failed at its second factor, by somebody whose account is known.
    pub(super) fn mfa_failed_entry(&self, origin: &RequestSource) -> AuditEntryBuilder {
        self.audit_entry(origin, Action::MfaFailed)
    }
}
