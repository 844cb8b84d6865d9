//! First factor: passwords and their rate limits.
//!
//! An unknown account, a disabled one and a wrong password give the same answer in the same time:
//! each costs one Argon2id, of a decoy where there is nothing to verify. Hashing is expensive by
//! design, so it uses half the cores and a bounded queue: a burst of sign-ins gets "try again", and
//! streams keep their cores.

use crate::auth::AttemptLimiter;
use crate::auth::{opaque, password};
use crate::broker::core::settings::Settings;
use crate::broker::core::signing_keys::SigningKeys;
use crate::broker::core::throttles::{HashQueue, throttled_error};
use crate::broker::core::unit_of_work::{AuditedStore, Decision};
use crate::broker::identity::tokens;
use crate::broker::model::SignIn;
use crate::domain::audit::{Action, Reason};
use crate::domain::secret::SecretString;
use crate::domain::user::{RequestSource, User};
use crate::domain::{Error, Result, Timestamp};
use crate::store::{Challenge, ChallengePurpose};
use std::sync::Arc;
use uuid::Uuid;

/// Maximum password length that is hashed, in bytes.
const PASSWORD_MAX: usize = 1024;

fn invalid_credentials() -> Error {
    Error::unauthenticated("Invalid credentials")
}

#[derive(Clone)]
pub struct Passwords {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) keys: SigningKeys,
    pub(in crate::broker) settings: Arc<Settings>,
    pub(in crate::broker) password_limiter: Arc<AttemptLimiter>,
    pub(in crate::broker) hash_queue: HashQueue,
}

impl Passwords {
    /// Checks e-mail address and password; says whether a second factor is due.
    ///
    /// # Errors
    /// `Unauthenticated` "Invalid credentials" whatever is wrong; `Throttled`; `Unavailable` when
    /// the store is.
    pub async fn sign_in(
        &self,
        origin: &RequestSource,
        email: &str,
        password: &SecretString,
    ) -> Result<SignIn> {
        let email = crate::broker::core::text::truncate_utf8(email.trim(), 254).to_owned();
        let now = self.store.now();
        if let Err(wait) = self.password_limiter.check(&email, origin.source_ip, now) {
            let note = self
                .store
                .entry(origin, Action::LoginThrottled)
                .by_unknown_email(&email)
                .denied(Reason::TooManyTries);
            self.store.audit_unauthenticated(origin, note).await?;
            return Err(throttled_error(wait));
        }
        let known = {
            let email = email.clone();
            self.store.read(move |tx| tx.user_by_email(&email)).await?
        };
        let fits =
            self.verify_password(password, known.as_ref().map(|(_, hash)| hash.clone())).await?;
        let refused = match &known {
            None => Some(Reason::UnknownAccount),
            Some(_) if !fits => Some(Reason::WrongPassword),
            Some((user, _)) if user.disabled => Some(Reason::Disabled),
            Some(_) => None,
        };
        let (user, hash) = match (known, refused) {
            (Some(known), None) => known,
            (known, reason) => {
                let note = self.store.entry(origin, Action::LoginFailed);
                let note = match &known {
                    Some((user, _)) => note.by_user(user).on_user(user),
                    None => note.by_unknown_email(&email),
                };
                self.store
                    .write_entry(note.denied(reason.unwrap_or(Reason::UnknownAccount)))
                    .await?;
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
        let keys = self.keys.get().await?;
        let note = self.store.entry(origin, Action::Login);
        let settings = self.settings.clone();
        let login = tokens::NewLogin::new(origin, &settings, now);
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
                    let note =
                        note.clone().action(Action::LoginFailed).by_user(&user).on_user(&user);
                    return tx.deny(&note.denied(Reason::ChangedMeanwhile), invalid_credentials());
                };
                let note = note.clone().by_user(&user);
                let enrolled = tx.totp(user.id)?.is_some_and(|row| row.confirmed_at.is_some());
                if !enrolled && !settings.mfa_required {
                    let caller = made.insert(tx, &user, None, &refresh_hash)?;
                    tx.add_entry(&note.on_login(made.id).with("mfa", "none"));
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
                    &note
                        .on_user(&user)
                        .with("mfa", if enrolled { "pending" } else { "to_enroll" }),
                );
                Ok(Decision::Allowed((None, enrolled)))
            })
            .await?;
        match outcome {
            (Some(caller), _) => {
                self.password_limiter.reset_account(&caller.user.email);
                Ok(SignIn::Done(login.tokens(&keys, &self.settings, caller)?))
            }
            (None, enrolled) => Ok(SignIn::MfaRequired {
                token: challenge,
                enrollment_required: !enrolled,
                expires_in: self.settings.mfa_ttl,
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
        self.hash_queue.run(work).await
    }

    /// Number of Argon2id computations; tests compare the cost of sign-ins by it.
    #[doc(hidden)]
    #[must_use]
    pub fn hash_count(&self) -> u64 {
        self.hash_queue.count()
    }
}
