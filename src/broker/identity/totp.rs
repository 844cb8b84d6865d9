//! Second factor: time-based one-time passwords (RFC 6238).
//!
//! A **challenge** connects the two factors: an opaque token, stored hashed, valid for a few
//! minutes and five attempts. Its purpose binds it: `verify` may only verify a factor, `enroll` may
//! only enrol the first one. The accepted time step is advanced by compare-and-set, so of two
//! verifications with one code exactly one succeeds. The secret is sealed under its user's id and
//! is not valid until a code confirmed it.

use crate::auth::totp;
use crate::broker::core::answers::invalid_token;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::sealing::{Sealer, SealingPurpose};
use crate::broker::core::settings::Settings;
use crate::broker::core::signing_keys::SigningKeys;
use crate::broker::core::text::token_hash;
use crate::broker::core::unit_of_work::{AuditedStore, AuditedTx, Decision};
use crate::broker::identity::code_attempts::CodeAttempts;
use crate::broker::identity::tokens::NewLogin;
use crate::broker::identity::users::user_in_organization;
use crate::broker::model::{EnrollAs, Tokens, TotpEnrollment};
use crate::domain::audit::{Action, Reason};
use crate::domain::policy::PolicyAction;
use crate::domain::principal::{Principal, SignedInUser};
use crate::domain::secret::SecretString;
use crate::domain::user::{Mfa, MfaMethod, RequestSource, User};
use crate::domain::{Error, Result, Timestamp, UserId};
use crate::store::{Challenge, ChallengePurpose, Tx};
use std::sync::Arc;

/// Attempts per challenge.
const MAX_ATTEMPTS: i32 = 5;

fn invalid_code() -> Error {
    Error::unauthenticated("Invalid code")
}

/// A valid challenge with its user, or the reason why it is invalid.
type ChallengeLookup = std::result::Result<(Challenge, User), (Reason, Option<Box<User>>)>;

fn find_challenge(
    tx: &mut Tx<'_>,
    hash: &str,
    purpose: ChallengePurpose,
    now: Timestamp,
) -> Result<ChallengeLookup> {
    let Some(challenge) = tx.challenge(hash)? else { return Ok(Err((Reason::UnknownToken, None))) };
    let Some(user) = tx.user(challenge.user_id)? else {
        return Ok(Err((Reason::UnknownToken, None)));
    };
    let reason = if now >= challenge.expires_at {
        Reason::ExpiredToken
    } else if challenge.purpose != purpose {
        Reason::WrongPurpose
    } else if user.disabled {
        Reason::Disabled
    } else {
        return Ok(Ok((challenge, user)));
    };
    Ok(Err((reason, Some(Box::new(user)))))
}

#[derive(Clone)]
pub struct Totp {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) sealer: Sealer,
    pub(in crate::broker) keys: SigningKeys,
    pub(in crate::broker) settings: Arc<Settings>,
    pub(in crate::broker) attempts: CodeAttempts,
}

impl Totp {
    /// Checks a code and completes the sign-in.
    ///
    /// # Errors
    /// `Unauthenticated` "Invalid code" or "Invalid or expired token"; `Throttled`.
    pub async fn verify(
        &self,
        source: &RequestSource,
        browser: Option<&SecretString>,
        mfa_token: &SecretString,
        code: &str,
    ) -> Result<Tokens> {
        let hash = token_hash(mfa_token);
        let user = self.challenged_user(source, &hash, ChallengePurpose::Verify).await?;
        let attempt =
            self.attempts.acquire(source, browser, &user, ChallengePurpose::Verify).await?;
        let keys = self.keys.get().await?;
        let now = self.store.now();
        let login = NewLogin::new(source, &self.settings, now);
        let (made, refresh_hash) = (login.clone(), login.refresh_hash());
        let sealer = self.sealer.clone();
        let failed = self.store.entry(source, Action::MfaFailed);
        let done =
            self.store.entry(source, Action::MfaVerify).with("method", "totp").on_login(login.id);
        let code = SecretString::new(code.to_owned());
        let (caller, password_hash) = self
            .store
            .transact(move |tx| {
                let (challenge, user) =
                    match consume_attempt(tx, &hash, ChallengePurpose::Verify, now, &failed)? {
                        Decision::Allowed(found) => found,
                        Decision::Denied(error) => return Ok(Decision::Denied(error)),
                    };
                let failed = failed.clone().by_user(&user).on_user(&user);
                let Some(row) = tx.totp(user.id)?.filter(|row| row.confirmed_at.is_some()) else {
                    return tx.deny(&failed.denied(Reason::NoFactor), invalid_token());
                };
                let secret = sealer.unseal_text(SealingPurpose::Totp(user.id), &row.sealed)?;
                let Some(step) = totp::matching_step(&secret, code.expose(), now) else {
                    return tx.deny(&failed.denied(Reason::WrongCode), invalid_code());
                };
                if !tx.advance_totp_step(user.id, step, totp::step_of(now) + 1)? {
                    return tx.deny(&failed.denied(Reason::ReusedCode), invalid_code());
                }
                if !tx.delete_challenge(challenge.id)? {
                    return tx.deny(&failed.denied(Reason::UsedToken), invalid_token());
                }
                let mfa = Mfa { method: MfaMethod::Totp, verified_at: now };
                let caller = made.insert(tx, &user, Some(mfa), &refresh_hash)?;
                tx.add_entry(&done.clone().by_user(&user));
                Ok(Decision::Allowed((caller, password_hash(tx, &user)?)))
            })
            .await?;
        let wrong_codes = self.attempts.accepted(&attempt, &caller.user, ChallengePurpose::Verify);
        let known_browser = self.attempts.browsers.issue(browser, caller.user.id, &password_hash);
        let tokens = login.tokens(&keys, &self.settings, caller, known_browser)?;
        Ok(Tokens { wrong_codes, ..tokens })
    }

    /// Creates a TOTP secret for a user without a factor; it is valid once a code confirmed it.
    ///
    /// # Errors
    /// `Conflict` when a factor is enrolled; `Unauthenticated` when the token is not good.
    pub async fn enroll(
        &self,
        source: &RequestSource,
        who: EnrollAs<'_>,
    ) -> Result<TotpEnrollment> {
        let (hash, user) = self.enrolling_user(source, &who).await?;
        self.attempts.acquire(source, None, &user, ChallengePurpose::Enroll).await?;
        let secret = totp::new_secret();
        let issuer = self.settings.issuer.clone();
        let otpauth_url = totp::otpauth_url(&secret, &issuer, &user.email)?;
        let qr_svg = totp::qr_svg(&otpauth_url)?;
        let sealed = self.sealer.seal(SealingPurpose::Totp(user.id), secret.expose().as_bytes());
        let (now, account) = (self.store.now(), user.email.clone());
        let entry = self
            .store
            .entry(source, Action::MfaEnroll)
            .by_user(&user)
            .on_user(&user)
            .with("stage", "started");
        self.store
            .transact(move |tx| {
                if let Some(hash) = &hash
                    && find_challenge(tx, hash, ChallengePurpose::Enroll, now)?.is_err()
                {
                    return tx.deny(&entry.clone().denied(Reason::UsedToken), invalid_token());
                }
                if tx.totp(user.id)?.is_some_and(|row| row.confirmed_at.is_some()) {
                    return tx
                        .deny(&entry.clone().denied(Reason::AlreadyEnrolled), already_enrolled());
                }
                tx.put_totp(user.id, &sealed, now)?;
                tx.add_entry(&entry);
                Ok(Decision::Allowed(()))
            })
            .await?;
        Ok(TotpEnrollment { secret, otpauth_url, qr_svg, issuer, account })
    }

    /// Confirms the enrolled secret with its first code. With an MFA token this completes the
    /// sign-in and returns tokens; a signed-in caller's login counts as verified from now on.
    ///
    /// # Errors
    /// `Unauthenticated` when code or token are not good; `Conflict` when there is nothing to
    /// confirm.
    pub async fn confirm(
        &self,
        source: &RequestSource,
        browser: Option<&SecretString>,
        who: EnrollAs<'_>,
        code: &str,
    ) -> Result<Option<Tokens>> {
        let (hash, user) = self.enrolling_user(source, &who).await?;
        let signed_in = match who {
            EnrollAs::SignedIn(caller) => {
                Some(self.store.require_user(source, caller).await?.login_id)
            }
            EnrollAs::MfaToken(_) => None,
        };
        let attempt =
            self.attempts.acquire(source, browser, &user, ChallengePurpose::Enroll).await?;
        let keys = self.keys.get().await?;
        let now = self.store.now();
        let login = NewLogin::new(source, &self.settings, now);
        let (made, refresh_hash) = (login.clone(), login.refresh_hash());
        let sealer = self.sealer.clone();
        let failed = self.store.entry(source, Action::MfaFailed);
        let done = self
            .store
            .entry(source, Action::MfaEnroll)
            .with("method", "totp")
            .with("stage", "confirmed");
        let code = SecretString::new(code.to_owned());
        let (caller, password_hash) = self
            .store
            .transact(move |tx| {
                let (challenge, user) = match &hash {
                    None => (None, user.clone()),
                    Some(hash) => {
                        match consume_attempt(tx, hash, ChallengePurpose::Enroll, now, &failed)? {
                            Decision::Allowed((challenge, user)) => (Some(challenge), user),
                            Decision::Denied(error) => return Ok(Decision::Denied(error)),
                        }
                    }
                };
                let failed = failed.clone().by_user(&user).on_user(&user);
                let Some(row) = tx.totp(user.id)? else {
                    return tx.deny(
                        &failed.denied(Reason::NotStarted),
                        Error::conflict("Start the enrolment first."),
                    );
                };
                if row.confirmed_at.is_some() {
                    return tx.deny(&failed.denied(Reason::AlreadyEnrolled), already_enrolled());
                }
                let secret = sealer.unseal_text(SealingPurpose::Totp(user.id), &row.sealed)?;
                let Some(step) = totp::matching_step(&secret, code.expose(), now) else {
                    return tx.deny(&failed.denied(Reason::WrongCode), invalid_code());
                };
                if !tx.confirm_totp(user.id, step, now)? {
                    return tx.deny(&failed.denied(Reason::AlreadyEnrolled), already_enrolled());
                }
                let done = done.clone().by_user(&user).on_user(&user);
                let mfa = Mfa { method: MfaMethod::Totp, verified_at: now };
                let user = User { mfa_enrolled: true, ..user };
                if let Some(login) = signed_in {
                    tx.set_login_mfa(login, mfa)?;
                    tx.add_entry(&done);
                    let hash = password_hash(tx, &user)?;
                    let caller = SignedInUser { user, login_id: login, mfa: Some(mfa) };
                    return Ok(Decision::Allowed((caller, hash)));
                }
                if let Some(challenge) = challenge
                    && !tx.delete_challenge(challenge.id)?
                {
                    return Err(Error::conflict(
                        "Somebody else used this sign-in just now. Sign in again.",
                    ));
                }
                let caller = made.insert(tx, &user, Some(mfa), &refresh_hash)?;
                tx.add_entry(&done.with("login_id", made.id.to_string()));
                Ok(Decision::Allowed((caller, password_hash(tx, &user)?)))
            })
            .await?;
        self.attempts.accepted(&attempt, &caller.user, ChallengePurpose::Enroll);
        let known_browser = self.attempts.browsers.issue(browser, caller.user.id, &password_hash);
        match signed_in {
            Some(_) => Ok(None),
            None => login.tokens(&keys, &self.settings, caller, known_browser).map(Some),
        }
    }

    /// Sets a user's TOTP secret (demo and recovery); the secret is base32.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid` when the secret is none.
    pub async fn set(
        &self,
        source: &RequestSource,
        caller: &Principal,
        user: UserId,
        secret: &SecretString,
    ) -> Result<()> {
        let tried = self.store.entry(source, Action::MfaEnroll).on_user_id(user);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ManageUsers, tried).await?;
        totp::validate_secret(secret)?;
        let sealed = self.sealer.seal(SealingPurpose::Totp(user), secret.expose().as_bytes());
        let now = self.store.now();
        let entry = self
            .store
            .entry(source, Action::MfaEnroll)
            .by_caller(caller)
            .with("method", "totp")
            .with("stage", "set");
        self.store
            .transact(move |tx| {
                let user = match user_in_organization(tx, user, organization, &entry)? {
                    Decision::Allowed(user) => user,
                    Decision::Denied(error) => return Ok(Decision::Denied(error)),
                };
                tx.delete_totp(user.id)?;
                tx.put_totp(user.id, &sealed, now)?;
                // No code has been used yet; step 0 is in 1970.
                tx.confirm_totp(user.id, 0, now)?;
                tx.add_entry(&entry.clone().on_user(&user));
                Ok(Decision::Allowed(()))
            })
            .await
    }

    /// The enrolling user, and the hash of the challenge if one was presented.
    async fn enrolling_user(
        &self,
        source: &RequestSource,
        who: &EnrollAs<'_>,
    ) -> Result<(Option<String>, User)> {
        match who {
            EnrollAs::SignedIn(caller) => {
                Ok((None, self.store.require_user(source, caller).await?.user.clone()))
            }
            EnrollAs::MfaToken(token) => {
                let hash = token_hash(token);
                let user = self.challenged_user(source, &hash, ChallengePurpose::Enroll).await?;
                Ok((Some(hash), user))
            }
        }
    }

    /// The user of a challenge. A denial is audited, rate-limited if the user is unknown.
    async fn challenged_user(
        &self,
        source: &RequestSource,
        hash: &str,
        purpose: ChallengePurpose,
    ) -> Result<User> {
        let (hash, now) = (hash.to_owned(), self.store.now());
        let found = self.store.read(move |tx| find_challenge(tx, &hash, purpose, now)).await?;
        match found {
            Ok((_, user)) => Ok(user),
            Err((reason, user)) => {
                let entry = self.store.entry(source, Action::MfaFailed).denied(reason);
                let entry =
                    user.as_deref().map_or(entry.clone(), |user| entry.by_user(user).on_user(user));
                self.store.audit_unauthenticated(source, entry).await?;
                Err(invalid_token())
            }
        }
    }
}

/// Counts one attempt of a challenge, or denies it.
fn consume_attempt(
    tx: &mut AuditedTx<'_, '_>,
    hash: &str,
    purpose: ChallengePurpose,
    now: Timestamp,
    failed: &AuditEntryBuilder,
) -> Result<Decision<(Challenge, User)>> {
    match find_challenge(tx, hash, purpose, now)? {
        Err((reason, user)) => {
            let entry = failed.clone().denied(reason);
            tx.deny(
                &user.as_deref().map_or(entry.clone(), |user| entry.by_user(user).on_user(user)),
                invalid_token(),
            )
        }
        Ok((challenge, user)) if !tx.consume_attempt(challenge.id, MAX_ATTEMPTS)? => tx.deny(
            &failed.clone().by_user(&user).on_user(&user).denied(Reason::TooManyTries),
            invalid_token(),
        ),
        Ok(found) => Ok(Decision::Allowed(found)),
    }
}

/// What a known browser is bound to; of a removed user, nothing.
fn password_hash(tx: &mut Tx<'_>, user: &User) -> Result<String> {
    Ok(tx.user_by_email(&user.email)?.map(|(_, hash)| hash).unwrap_or_default())
}

fn already_enrolled() -> Error {
    Error::conflict("A second factor is already enrolled. An administrator can reset it.")
}
