//! The second factor: a time-based one-time code (RFC 6238).
//!
//! A **challenge** stands between the two factors: an opaque token, kept hashed, good for a few
//! minutes and five tries. Its purpose binds it: `verify` may only verify a factor, `enroll` may
//! only enrol the first one. A code's time step is advanced by compare-and-set, so of two
//! verifications with one code exactly one succeeds. The secret is sealed at rest under its user's
//! id, and counts for nothing until a code confirmed it.

use super::record::{Book, Note, Verdict};
use super::tokens::{NewLogin, hash_of, invalid_token};
use super::views::{EnrollAs, Tokens, TotpEnrollment};
use super::{Broker, signin};
use crate::auth::{Vault, totp};
use crate::domain::audit::Action;
use crate::domain::secret::SecretString;
use crate::domain::user::{Caller, Mfa, MfaMethod, RequestSource, User};
use crate::domain::{Error, Result, Timestamp, UserId};
use crate::store::{Challenge, ChallengePurpose, Tx};

/// Wrong codes a challenge survives.
const TRIES: i32 = 5;

fn invalid_code() -> Error {
    Error::unauthenticated("Invalid code")
}

/// What a user's TOTP secret is sealed for.
pub(super) fn purpose(user: UserId) -> String {
    format!("totp:{user}")
}

/// Opens a user's sealed TOTP secret.
fn open(vault: &Vault, user: UserId, sealed: &str) -> Result<SecretString> {
    let bytes = vault.unseal(&purpose(user), sealed)?;
    String::from_utf8(bytes.expose().clone()).map(SecretString::new).map_err(Error::internal)
}

/// The challenge of a token, alive and for this purpose, with its user; else the reason why not.
type Found = std::result::Result<(Challenge, User), (&'static str, Option<Box<User>>)>;

fn find(book: &mut Tx<'_>, hash: &str, purpose: ChallengePurpose, now: Timestamp) -> Result<Found> {
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
        let hash = hash_of(mfa_token);
        let user = self.challenged(origin, &hash, ChallengePurpose::Verify).await?;
        self.count_code(origin, &user).await?;
        let keys = self.keys().await?;
        let now = self.now();
        let login = NewLogin::new(origin, &self.inner.settings, now);
        let (made, refresh_hash) = (login.clone(), login.refresh_hash());
        let vault = self.inner.vault.clone();
        let failed = self.mfa_failed(origin);
        let done = self.note(origin, Action::MfaVerify).with("method", "totp").on_login(login.id);
        let code = SecretString::new(code.to_owned());
        let caller = self
            .decide(move |book| {
                let (challenge, user) =
                    match tried(book, &hash, ChallengePurpose::Verify, now, &failed)? {
                        Ok(found) => found,
                        Err(error) => return Ok(Err(error)),
                    };
                let failed = failed.clone().by_user(&user).on_user(&user);
                let Some(row) = book.totp(user.id)?.filter(|row| row.confirmed_at.is_some()) else {
                    return book.refuse(&failed.denied("no_factor"), invalid_token());
                };
                let secret = open(&vault, user.id, &row.sealed)?;
                let Some(step) = totp::matching_step(&secret, code.expose(), now) else {
                    return book.refuse(&failed.denied("wrong_code"), invalid_code());
                };
                if !book.advance_totp_step(user.id, step)? {
                    return book.refuse(&failed.denied("reused_code"), invalid_code());
                }
                if !book.delete_challenge(challenge.id)? {
                    return book.refuse(&failed.denied("used_token"), invalid_token());
                }
                let mfa = Mfa { method: MfaMethod::Totp, verified_at: now };
                let caller = made.insert(book, &user, Some(mfa), &refresh_hash)?;
                book.note(&done.clone().by_user(&user));
                Ok(Ok(caller))
            })
            .await?;
        self.inner.guesses.reset_account(&caller.user.email);
        self.inner.codes.reset_account(&caller.user.id.to_string());
        login.tokens(&keys, &self.inner.settings, caller)
    }

    /// A fresh TOTP secret for somebody who has no factor; it counts once a code confirmed it.
    ///
    /// # Errors
    /// `Conflict` when a factor is enrolled; `Unauthenticated` when the token is not good.
    pub async fn totp_enroll(
        &self,
        origin: &RequestSource,
        who: EnrollAs<'_>,
    ) -> Result<TotpEnrollment> {
        let (hash, user) = self.enrolling(origin, &who).await?;
        self.count_code(origin, &user).await?;
        let secret = totp::new_secret();
        let issuer = self.inner.settings.issuer.clone();
        let otpauth_url = totp::otpauth_url(&secret, &issuer, &user.email)?;
        let qr_svg = totp::qr_svg(&otpauth_url)?;
        let sealed = self.inner.vault.seal(&purpose(user.id), secret.expose().as_bytes());
        let (now, account) = (self.now(), user.email.clone());
        let note = self
            .note(origin, Action::MfaEnroll)
            .by_user(&user)
            .on_user(&user)
            .with("stage", "started");
        self.decide(move |book| {
            if let Some(hash) = &hash
                && find(book, hash, ChallengePurpose::Enroll, now)?.is_err()
            {
                return book.refuse(&note.clone().denied("used_token"), invalid_token());
            }
            if book.totp(user.id)?.is_some_and(|row| row.confirmed_at.is_some()) {
                return book.refuse(&note.clone().denied("already_enrolled"), already_enrolled());
            }
            book.put_totp(user.id, &sealed, now)?;
            book.note(&note);
            Ok(Ok(()))
        })
        .await?;
        Ok(TotpEnrollment { secret, otpauth_url, qr_svg, issuer, account })
    }

    /// Confirms the enrolled secret with its first code. With an MFA token the sign-in is complete
    /// and tokens come back; signed in already, this login counts as verified from now on.
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
        let (hash, user) = self.enrolling(origin, &who).await?;
        let signed_in = match who {
            EnrollAs::Caller(caller) => Some(caller.login_id),
            EnrollAs::MfaToken(_) => None,
        };
        self.count_code(origin, &user).await?;
        let keys = self.keys().await?;
        let now = self.now();
        let login = NewLogin::new(origin, &self.inner.settings, now);
        let (made, refresh_hash) = (login.clone(), login.refresh_hash());
        let vault = self.inner.vault.clone();
        let failed = self.mfa_failed(origin);
        let done =
            self.note(origin, Action::MfaEnroll).with("method", "totp").with("stage", "confirmed");
        let code = SecretString::new(code.to_owned());
        let caller = self
            .decide(move |book| {
                let (challenge, user) = match &hash {
                    None => (None, user.clone()),
                    Some(hash) => {
                        match tried(book, hash, ChallengePurpose::Enroll, now, &failed)? {
                            Ok((challenge, user)) => (Some(challenge), user),
                            Err(error) => return Ok(Err(error)),
                        }
                    }
                };
                let failed = failed.clone().by_user(&user).on_user(&user);
                let Some(row) = book.totp(user.id)? else {
                    return book.refuse(
                        &failed.denied("not_started"),
                        Error::conflict("Start the enrolment first."),
                    );
                };
                if row.confirmed_at.is_some() {
                    return book.refuse(&failed.denied("already_enrolled"), already_enrolled());
                }
                let secret = open(&vault, user.id, &row.sealed)?;
                let Some(step) = totp::matching_step(&secret, code.expose(), now) else {
                    return book.refuse(&failed.denied("wrong_code"), invalid_code());
                };
                if !book.confirm_totp(user.id, step, now)? {
                    return book.refuse(&failed.denied("already_enrolled"), already_enrolled());
                }
                let done = done.clone().by_user(&user).on_user(&user);
                let mfa = Mfa { method: MfaMethod::Totp, verified_at: now };
                let user = User { mfa_enrolled: true, ..user };
                if let Some(login) = signed_in {
                    book.set_login_mfa(login, mfa)?;
                    book.note(&done);
                    return Ok(Ok(Caller { user, login_id: login, mfa: Some(mfa) }));
                }
                if let Some(challenge) = challenge
                    && !book.delete_challenge(challenge.id)?
                {
                    return Err(Error::conflict(
                        "Somebody else used this sign-in just now. Sign in again.",
                    ));
                }
                let caller = made.insert(book, &user, Some(mfa), &refresh_hash)?;
                book.note(&done.with("login_id", made.id.to_string()));
                Ok(Ok(caller))
            })
            .await?;
        self.inner.guesses.reset_account(&caller.user.email);
        self.inner.codes.reset_account(&caller.user.id.to_string());
        match signed_in {
            Some(_) => Ok(None),
            None => login.tokens(&keys, &self.inner.settings, caller).map(Some),
        }
    }

    /// Who enrols, and the hash of their challenge if that is what they hold.
    async fn enrolling(
        &self,
        origin: &RequestSource,
        who: &EnrollAs<'_>,
    ) -> Result<(Option<String>, User)> {
        match who {
            EnrollAs::Caller(caller) => Ok((None, caller.user.clone())),
            EnrollAs::MfaToken(token) => {
                let hash = hash_of(token);
                let user = self.challenged(origin, &hash, ChallengePurpose::Enroll).await?;
                Ok((Some(hash), user))
            }
        }
    }

    /// Whose challenge it is. A refusal is written down: within its address's share when nobody is
    /// known.
    async fn challenged(
        &self,
        origin: &RequestSource,
        hash: &str,
        purpose: ChallengePurpose,
    ) -> Result<User> {
        let (hash, now) = (hash.to_owned(), self.now());
        let found = self.inner.store.read(move |tx| find(tx, &hash, purpose, now)).await?;
        match found {
            Ok((_, user)) => Ok(user),
            Err((reason, user)) => {
                let note = self.mfa_failed(origin).denied(reason);
                let note =
                    user.as_deref().map_or(note.clone(), |user| note.by_user(user).on_user(user));
                self.strangers_note(origin, note).await?;
                Err(invalid_token())
            }
        }
    }

    /// Counts a guess of a code against the account: challenges are cheap to whoever knows the
    /// password.
    async fn count_code(&self, origin: &RequestSource, user: &User) -> Result<()> {
        match self.inner.codes.check(&user.id.to_string(), origin.source_ip, self.now()) {
            Ok(()) => Ok(()),
            Err(wait) => {
                let note =
                    self.mfa_failed(origin).by_user(user).on_user(user).denied("too_many_tries");
                self.strangers_note(origin, note).await?;
                Err(signin::throttled(wait))
            }
        }
    }
}

/// The challenge with one try counted, or the refusal.
fn tried(
    book: &mut Book<'_, '_>,
    hash: &str,
    purpose: ChallengePurpose,
    now: Timestamp,
    failed: &Note,
) -> Verdict<(Challenge, User)> {
    match find(book, hash, purpose, now)? {
        Err((reason, user)) => {
            let note = failed.clone().denied(reason);
            book.refuse(
                &user.as_deref().map_or(note.clone(), |user| note.by_user(user).on_user(user)),
                invalid_token(),
            )
        }
        Ok((challenge, user)) if !book.consume_attempt(challenge.id, TRIES)? => book.refuse(
            &failed.clone().by_user(&user).on_user(&user).denied("too_many_tries"),
            invalid_token(),
        ),
        Ok(found) => Ok(Ok(found)),
    }
}

fn already_enrolled() -> Error {
    Error::conflict("A second factor is already enrolled. An administrator can reset it.")
}
