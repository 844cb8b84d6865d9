//! Second factor: time-based one-time passwords (RFC 6238).
//!
//! A **challenge** connects the two factors: an opaque token, stored hashed, valid for a few
//! minutes and five attempts. Its purpose binds it: `verify` may only verify a factor, `enroll` may
//! only enrol the first one. The accepted time step is advanced by compare-and-set, so of two
//! verifications with one code exactly one succeeds. The secret is sealed under its user's id and
//! is not valid until a code confirmed it.

use crate::auth::{Vault, totp};
use crate::broker::Broker;
use crate::broker::core::answers::invalid_token;
use crate::broker::core::audit_entry::AuditEntryBuilder;
use crate::broker::core::text::token_hash;
use crate::broker::core::unit_of_work::{AuditedTx, Decision};
use crate::broker::identity::password;
use crate::broker::identity::tokens::NewLogin;
use crate::broker::model::{EnrollAs, Tokens, TotpEnrollment};
use crate::domain::audit::Action;
use crate::domain::policy::PolicyAction;
use crate::domain::principal::{Principal, SignedInUser};
use crate::domain::secret::SecretString;
use crate::domain::user::{Mfa, MfaMethod, RequestSource, User};
use crate::domain::{Error, Result, Timestamp, UserId};
use crate::store::{Challenge, ChallengePurpose, Tx};

/// Attempts per challenge.
const MAX_ATTEMPTS: i32 = 5;

fn invalid_code() -> Error {
    Error::unauthenticated("Invalid code")
}

pub(in crate::broker) fn totp_purpose(user: UserId) -> String {
    format!("totp:{user}")
}

fn open_secret(vault: &Vault, user: UserId, sealed: &str) -> Result<SecretString> {
    let bytes = vault.unseal(&totp_purpose(user), sealed)?;
    String::from_utf8(bytes.expose().clone()).map(SecretString::new).map_err(Error::internal)
}

/// A valid challenge with its user, or the reason why it is invalid.
type ChallengeLookup = std::result::Result<(Challenge, User), (&'static str, Option<Box<User>>)>;

fn find_challenge(
    book: &mut Tx<'_>,
    hash: &str,
    purpose: ChallengePurpose,
    now: Timestamp,
) -> Result<ChallengeLookup> {
    let Some(challenge) = book.challenge(hash)? else { return Ok(Err(("unknown_token", None))) };
    let Some(user) = book.user(challenge.user_id)? else { return Ok(Err(("unknown_token", None))) };
    let reason = if now >= challenge.expires_at {
        "expired_token"
    } else if challenge.purpose != purpose {
        "wrong_purpose"
    } else if user.disabled {
        "disabled"
    } else {
        return Ok(Ok((challenge, user)));
    };
    Ok(Err((reason, Some(Box::new(user)))))
}

impl Broker {
    /// Checks a code and completes the sign-in.
    ///
    /// # Errors
    /// `Unauthenticated` "Invalid code" or "Invalid or expired token"; `Throttled`.
    pub async fn mfa_verify(
        &self,
        origin: &RequestSource,
        mfa_token: &SecretString,
        method: &str,
        code: &str,
    ) -> Result<Tokens> {
        if MfaMethod::parse(method).is_none() {
            return Err(Error::invalid("method must be \"totp\"."));
        }
        let hash = token_hash(mfa_token);
        let user = self.challenged_user(origin, &hash, ChallengePurpose::Verify).await?;
        self.limit_code_attempts(origin, &user).await?;
        let keys = self.keys().await?;
        let now = self.now();
        let login = NewLogin::new(origin, &self.inner.settings, now);
        let (made, refresh_hash) = (login.clone(), login.refresh_hash());
        let vault = self.inner.vault.clone();
        let failed = self.mfa_failed_entry(origin);
        let done =
            self.audit_entry(origin, Action::MfaVerify).with("method", "totp").on_login(login.id);
        let code = SecretString::new(code.to_owned());
        let caller = self
            .transact(move |book| {
                let (challenge, user) =
                    match consume_attempt(book, &hash, ChallengePurpose::Verify, now, &failed)? {
                        Ok(found) => found,
                        Err(error) => return Ok(Err(error)),
                    };
                let failed = failed.clone().by_user(&user).on_user(&user);
                let Some(row) = book.totp(user.id)?.filter(|row| row.confirmed_at.is_some()) else {
                    return book.deny(&failed.denied("no_factor"), invalid_token());
                };
                let secret = open_secret(&vault, user.id, &row.sealed)?;
                let Some(step) = totp::matching_step(&secret, code.expose(), now) else {
                    return book.deny(&failed.denied("wrong_code"), invalid_code());
                };
                if !book.advance_totp_step(user.id, step)? {
                    return book.deny(&failed.denied("reused_code"), invalid_code());
                }
                if !book.delete_challenge(challenge.id)? {
                    return book.deny(&failed.denied("used_token"), invalid_token());
                }
                let mfa = Mfa { method: MfaMethod::Totp, verified_at: now };
                let caller = made.insert(book, &user, Some(mfa), &refresh_hash)?;
                book.add_entry(&done.clone().by_user(&user));
                Ok(Ok(caller))
            })
            .await?;
        self.inner.password_limiter.reset_account(&caller.user.email);
        self.inner.otp_limiter.reset_account(&caller.user.id.to_string());
        login.tokens(&keys, &self.inner.settings, caller)
    }

    /// Creates a TOTP secret for a user without a factor; it is valid once a code confirmed it.
    ///
    /// # Errors
    /// `Conflict` when a factor is enrolled; `Unauthenticated` when the token is not good.
    pub async fn totp_enroll(
        &self,
        origin: &RequestSource,
        who: EnrollAs<'_>,
    ) -> Result<TotpEnrollment> {
        let (hash, user) = self.enrolling_user(origin, &who).await?;
        self.limit_code_attempts(origin, &user).await?;
        let secret = totp::new_secret();
        let issuer = self.inner.settings.issuer.clone();
        let otpauth_url = totp::otpauth_url(&secret, &issuer, &user.email)?;
        let qr_svg = totp::qr_svg(&otpauth_url)?;
        let sealed = self.inner.vault.seal(&totp_purpose(user.id), secret.expose().as_bytes());
        let (now, account) = (self.now(), user.email.clone());
        let note = self
            .audit_entry(origin, Action::MfaEnroll)
            .by_user(&user)
            .on_user(&user)
            .with("stage", "started");
        self.transact(move |book| {
            if let Some(hash) = &hash
                && find_challenge(book, hash, ChallengePurpose::Enroll, now)?.is_err()
            {
                return book.deny(&note.clone().denied("used_token"), invalid_token());
            }
            if book.totp(user.id)?.is_some_and(|row| row.confirmed_at.is_some()) {
                return book.deny(&note.clone().denied("already_enrolled"), already_enrolled());
            }
            book.put_totp(user.id, &sealed, now)?;
            book.add_entry(&note);
            Ok(Ok(()))
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
    pub async fn totp_confirm(
        &self,
        origin: &RequestSource,
        who: EnrollAs<'_>,
        code: &str,
    ) -> Result<Option<Tokens>> {
        let (hash, user) = self.enrolling_user(origin, &who).await?;
        let signed_in = match who {
            EnrollAs::SignedIn(caller) => Some(self.require_user(origin, caller).await?.login_id),
            EnrollAs::MfaToken(_) => None,
        };
        self.limit_code_attempts(origin, &user).await?;
        let keys = self.keys().await?;
        let now = self.now();
        let login = NewLogin::new(origin, &self.inner.settings, now);
        let (made, refresh_hash) = (login.clone(), login.refresh_hash());
        let vault = self.inner.vault.clone();
        let failed = self.mfa_failed_entry(origin);
        let done = self
            .audit_entry(origin, Action::MfaEnroll)
            .with("method", "totp")
            .with("stage", "confirmed");
        let code = SecretString::new(code.to_owned());
        let caller = self
            .transact(move |book| {
                let (challenge, user) = match &hash {
                    None => (None, user.clone()),
                    Some(hash) => {
                        match consume_attempt(book, hash, ChallengePurpose::Enroll, now, &failed)? {
                            Ok((challenge, user)) => (Some(challenge), user),
                            Err(error) => return Ok(Err(error)),
                        }
                    }
                };
                let failed = failed.clone().by_user(&user).on_user(&user);
                let Some(row) = book.totp(user.id)? else {
                    return book.deny(
                        &failed.denied("not_started"),
                        Error::conflict("Start the enrolment first."),
                    );
                };
                if row.confirmed_at.is_some() {
                    return book.deny(&failed.denied("already_enrolled"), already_enrolled());
                }
                let secret = open_secret(&vault, user.id, &row.sealed)?;
                let Some(step) = totp::matching_step(&secret, code.expose(), now) else {
                    return book.deny(&failed.denied("wrong_code"), invalid_code());
                };
                if !book.confirm_totp(user.id, step, now)? {
                    return book.deny(&failed.denied("already_enrolled"), already_enrolled());
                }
                let done = done.clone().by_user(&user).on_user(&user);
                let mfa = Mfa { method: MfaMethod::Totp, verified_at: now };
                let user = User { mfa_enrolled: true, ..user };
                if let Some(login) = signed_in {
                    book.set_login_mfa(login, mfa)?;
                    book.add_entry(&done);
                    return Ok(Ok(SignedInUser { user, login_id: login, mfa: Some(mfa) }));
                }
                if let Some(challenge) = challenge
                    && !book.delete_challenge(challenge.id)?
                {
                    return Err(Error::conflict(
                        "Somebody else used this sign-in just now. Sign in again.",
                    ));
                }
                let caller = made.insert(book, &user, Some(mfa), &refresh_hash)?;
                book.add_entry(&done.with("login_id", made.id.to_string()));
                Ok(Ok(caller))
            })
            .await?;
        self.inner.password_limiter.reset_account(&caller.user.email);
        self.inner.otp_limiter.reset_account(&caller.user.id.to_string());
        match signed_in {
            Some(_) => Ok(None),
            None => login.tokens(&keys, &self.inner.settings, caller).map(Some),
        }
    }

    /// Sets a user's TOTP secret (demo and recovery); the secret is base32.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid` when the secret is none.
    pub async fn set_totp(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        user: UserId,
        secret: &SecretString,
    ) -> Result<()> {
        let organization =
            self.permit(origin, caller, PolicyAction::ManageUsers).await?.organization_id();
        totp::validate_secret(secret)?;
        let sealed = self.inner.vault.seal(&totp_purpose(user), secret.expose().as_bytes());
        let now = self.now();
        let note = self
            .audit_entry(origin, Action::MfaEnroll)
            .by_caller(caller)
            .with("method", "totp")
            .with("stage", "set");
        self.transact(move |book| {
            let Some(user) = book.user(user)?.filter(|u| u.organization_id == organization) else {
                let note = note.clone().action(Action::AccessDenied).on_user_id(user);
                return book.deny(&note.denied("unknown"), Error::not_found("User"));
            };
            book.delete_totp(user.id)?;
            book.put_totp(user.id, &sealed, now)?;
            // No code has been used yet; step 0 is in 1970.
            book.confirm_totp(user.id, 0, now)?;
            book.add_entry(&note.clone().on_user(&user));
            Ok(Ok(()))
        })
        .await
    }

    /// The enrolling user, and the hash of the challenge if one was presented.
    async fn enrolling_user(
        &self,
        origin: &RequestSource,
        who: &EnrollAs<'_>,
    ) -> Result<(Option<String>, User)> {
        match who {
            EnrollAs::SignedIn(caller) => {
                Ok((None, self.require_user(origin, caller).await?.user.clone()))
            }
            EnrollAs::MfaToken(token) => {
                let hash = token_hash(token);
                let user = self.challenged_user(origin, &hash, ChallengePurpose::Enroll).await?;
                Ok((Some(hash), user))
            }
        }
    }

    /// The user of a challenge. A denial is audited, rate-limited if the user is unknown.
    async fn challenged_user(
        &self,
        origin: &RequestSource,
        hash: &str,
        purpose: ChallengePurpose,
    ) -> Result<User> {
        let (hash, now) = (hash.to_owned(), self.now());
        let found =
            self.inner.store.read(move |tx| find_challenge(tx, &hash, purpose, now)).await?;
        match found {
            Ok((_, user)) => Ok(user),
            Err((reason, user)) => {
                let note = self.mfa_failed_entry(origin).denied(reason);
                let note =
                    user.as_deref().map_or(note.clone(), |user| note.by_user(user).on_user(user));
                self.audit_unauthenticated(origin, note).await?;
                Err(invalid_token())
            }
        }
    }

    /// Rate-limits codes per account, because anyone with the password can create challenges.
    async fn limit_code_attempts(&self, origin: &RequestSource, user: &User) -> Result<()> {
        match self.inner.otp_limiter.check(&user.id.to_string(), origin.source_ip, self.now()) {
            Ok(()) => Ok(()),
            Err(wait) => {
                let note = self
                    .mfa_failed_entry(origin)
                    .by_user(user)
                    .on_user(user)
                    .denied("too_many_tries");
                self.audit_unauthenticated(origin, note).await?;
                Err(password::throttled_error(wait))
            }
        }
    }
}

/// Counts one attempt of a challenge, or denies it.
fn consume_attempt(
    book: &mut AuditedTx<'_, '_>,
    hash: &str,
    purpose: ChallengePurpose,
    now: Timestamp,
    failed: &AuditEntryBuilder,
) -> Decision<(Challenge, User)> {
    match find_challenge(book, hash, purpose, now)? {
        Err((reason, user)) => {
            let note = failed.clone().denied(reason);
            book.deny(
                &user.as_deref().map_or(note.clone(), |user| note.by_user(user).on_user(user)),
                invalid_token(),
            )
        }
        Ok((challenge, user)) if !book.consume_attempt(challenge.id, MAX_ATTEMPTS)? => book.deny(
            &failed.clone().by_user(&user).on_user(&user).denied("too_many_tries"),
            invalid_token(),
        ),
        Ok(found) => Ok(Ok(found)),
    }
}

fn already_enrolled() -> Error {
    Error::conflict("A second factor is already enrolled. An administrator can reset it.")
}
