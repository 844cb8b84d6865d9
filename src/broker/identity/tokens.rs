//! Access and refresh tokens, logins, and authentication of requests.
//!
//! A **login** is one signed-in browser or program. It issues short-lived access tokens (JWT) and a
//! chain of refresh tokens, each for one use. A refresh token that is used twice is held by two
//! parties, so its login is revoked with its streams. Whether a login is valid is always read from
//! the store, never from the token.

use crate::auth::{Claims, TokenKeys, opaque, token};
use crate::broker::core::answers::invalid_token;
use crate::broker::core::text::token_hash;
use crate::broker::core::unit_of_work::AuditedTx;
use crate::broker::model::{LoginView, Tokens};
use crate::broker::{Broker, Settings};
use crate::domain::audit::Action;
use crate::domain::principal::{Principal, SignedInUser};
use crate::domain::secret::SecretString;
use crate::domain::session::EndReason;
use crate::domain::user::{Mfa, RequestSource, User};
use crate::domain::{Error, LoginId, Result, Timestamp};
use crate::store::Login;
use uuid::Uuid;

/// Logins listed for their owner.
const LOGINS_MAX: usize = 20;

/// A new login with its first refresh token. Generated before the transaction, so that a retry
/// after a serialization failure writes identical values.
#[derive(Clone)]
pub(in crate::broker) struct NewLogin {
    pub(in crate::broker) id: LoginId,
    refresh: SecretString,
    source_ip: Option<String>,
    user_agent: Option<String>,
    now: Timestamp,
    expires_at: Timestamp,
}

impl NewLogin {
    pub(in crate::broker) fn new(
        origin: &RequestSource,
        settings: &Settings,
        now: Timestamp,
    ) -> Self {
        Self {
            id: LoginId::new(),
            refresh: opaque::new_token("prt_"),
            source_ip: origin.source_ip.map(|ip| ip.to_string()),
            user_agent: origin.user_agent.clone(),
            now,
            expires_at: now.after(settings.refresh_ttl),
        }
    }

    pub(in crate::broker) fn refresh_hash(&self) -> String {
        opaque::hash(self.refresh.expose())
    }

    pub(in crate::broker) fn insert(
        &self,
        book: &mut AuditedTx<'_, '_>,
        user: &User,
        mfa: Option<Mfa>,
        refresh_hash: &str,
    ) -> Result<SignedInUser> {
        book.insert_login(&Login {
            id: self.id,
            user_id: user.id,
            organization_id: user.organization_id,
            mfa,
            created_at: self.now,
            expires_at: self.expires_at,
            revoked_at: None,
            source_ip: self.source_ip.clone(),
            user_agent: self.user_agent.clone(),
        })?;
        book.insert_refresh_token(refresh_hash, self.id, self.expires_at, self.now)?;
        book.set_last_login(user.id, self.now)?;
        let user = User { last_login_at: Some(self.now), ..user.clone() };
        Ok(SignedInUser { user, login_id: self.id, mfa })
    }

    pub(in crate::broker) fn tokens(
        self,
        keys: &TokenKeys,
        settings: &Settings,
        caller: SignedInUser,
    ) -> Result<Tokens> {
        issue_tokens(keys, settings, caller, self.refresh.clone(), self.now)
    }
}

fn issue_tokens(
    keys: &TokenKeys,
    settings: &Settings,
    caller: SignedInUser,
    refresh_token: SecretString,
    now: Timestamp,
) -> Result<Tokens> {
    let claims = Claims {
        sub: caller.user.id,
        org: caller.user.organization_id,
        sid: caller.login_id,
        role: caller.user.role,
        mfa: caller.mfa.is_some(),
        iat: now.unix_seconds(),
        exp: now.after(settings.access_ttl).unix_seconds(),
        iss: token::ISSUER.to_owned(),
        aud: token::AUDIENCE.to_owned(),
        jti: Uuid::new_v4().to_string(),
    };
    Ok(Tokens {
        access_token: SecretString::new(keys.sign(&claims)?),
        expires_in: settings.access_ttl,
        refresh_token,
        refresh_expires_in: settings.refresh_ttl,
        caller,
    })
}

/// Whether a login and its user are valid in the store.
enum LoginState {
    Valid(Box<SignedInUser>),
    Invalid(&'static str, Option<Box<User>>),
}

fn login_state(login: Option<Login>, user: Option<User>, now: Timestamp) -> LoginState {
    match (login, user) {
        (Some(login), Some(user)) => {
            let reason = if login.revoked_at.is_some() {
                "revoked"
            } else if now >= login.expires_at {
                "login_expired"
            } else if user.disabled {
                "disabled"
            } else if login.user_id != user.id {
                "forged"
            } else {
                return LoginState::Valid(Box::new(SignedInUser {
                    user,
                    login_id: login.id,
                    mfa: login.mfa,
                }));
            };
            LoginState::Invalid(reason, Some(Box::new(user)))
        }
        (_, user) => LoginState::Invalid("unknown_login", user.map(Box::new)),
    }
}

impl Broker {
    /// Authenticates an access token: signature, expiry, login, user. A refused token is audited
    /// (`token_refused`), within the rate limit of its source address.
    ///
    /// # Errors
    /// `Unauthenticated` whatever is wrong with it; `Unavailable` when the store is.
    pub async fn authenticate(
        &self,
        origin: &RequestSource,
        access_token: &str,
    ) -> Result<Principal> {
        let now = self.now();
        let claims = match self.keys().await?.verify(access_token, now) {
            Ok(claims) => claims,
            Err(refused) => {
                let expired =
                    refused.source.as_ref().is_some_and(|cause| cause.to_string() == "expired");
                let note = self.audit_entry(origin, Action::TokenRefused).denied(if expired {
                    "expired"
                } else {
                    "forged"
                });
                self.audit_unauthenticated(origin, note).await?;
                return Err(refused);
            }
        };
        let found = self
            .inner
            .store
            .read(move |tx| Ok((tx.login(claims.sid)?, tx.user(claims.sub)?)))
            .await?;
        match login_state(found.0, found.1, now) {
            LoginState::Valid(caller) => Ok(Principal::User(*caller)),
            LoginState::Invalid(reason, user) => {
                let note = self
                    .audit_entry(origin, Action::TokenRefused)
                    .on_login(claims.sid)
                    .denied(reason);
                let note = user.as_deref().map_or(note.clone(), |user| note.by_user(user));
                self.audit_unauthenticated(origin, note).await?;
                Err(invalid_token())
            }
        }
    }

    /// Issues new tokens for a refresh token and consumes it.
    ///
    /// # Errors
    /// `Unauthenticated`; when the token was used before, its login is revoked and its streams are
    /// cut.
    pub async fn refresh(
        &self,
        origin: &RequestSource,
        refresh_token: &SecretString,
    ) -> Result<Tokens> {
        let broker = self.clone();
        let (origin, hash) = (origin.clone(), token_hash(refresh_token));
        self.spawn_to_completion(async move { broker.run_refresh(&origin, hash).await }).await
    }

    async fn run_refresh(&self, origin: &RequestSource, hash: String) -> Result<Tokens> {
        enum Outcome {
            Renewed(Box<SignedInUser>),
            Unknown,
            Refused(LoginId, Error),
        }
        let keys = self.keys().await?;
        let now = self.now();
        let fresh = opaque::new_token("prt_");
        let fresh_hash = opaque::hash(fresh.expose());
        let expires_at = now.after(self.inner.settings.refresh_ttl);
        let note = self.audit_entry(origin, Action::Refresh);
        let outcome = self
            .write(move |book| {
                let Some(row) = book.refresh_token(&hash)? else { return Ok(Outcome::Unknown) };
                let login = book.login(row.login_id)?;
                let user = login.as_ref().map(|l| book.user(l.user_id)).transpose()?.flatten();
                let note = user
                    .as_ref()
                    .map_or(note.clone(), |user| note.clone().by_user(user))
                    .on_login(row.login_id);
                if row.used_at.is_some() || !book.consume_refresh_token(&hash, now)? {
                    book.revoke_login(row.login_id, now)?;
                    book.add_entry(&note.action(Action::RefreshReuse).denied("reused"));
                    return Ok(Outcome::Refused(row.login_id, invalid_token()));
                }
                let standing = if now >= row.expires_at {
                    LoginState::Invalid("expired", None)
                } else {
                    login_state(login, user, now)
                };
                match standing {
                    LoginState::Valid(caller) => {
                        book.insert_refresh_token(&fresh_hash, caller.login_id, expires_at, now)?;
                        book.extend_login(caller.login_id, expires_at)?;
                        book.add_entry(&note);
                        Ok(Outcome::Renewed(caller))
                    }
                    LoginState::Invalid(reason, _) => {
                        book.add_entry(&note.action(Action::TokenRefused).denied(reason));
                        Ok(Outcome::Refused(row.login_id, invalid_token()))
                    }
                }
            })
            .await?;
        match outcome {
            Outcome::Renewed(caller) => {
                issue_tokens(&keys, &self.inner.settings, *caller, fresh, now)
            }
            Outcome::Refused(login, error) => {
                self.streams().revoke_login(login);
                Err(error)
            }
            Outcome::Unknown => {
                let note =
                    self.audit_entry(origin, Action::TokenRefused).denied("unknown_refresh_token");
                self.audit_unauthenticated(origin, note).await?;
                Err(invalid_token())
            }
        }
    }

    /// Revokes this login and its streams; desktops keep running. `everywhere`: ends every login
    /// and session of the user.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn logout(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        everywhere: bool,
    ) -> Result<()> {
        let (broker, origin, caller) = (self.clone(), origin.clone(), caller.clone());
        self.spawn_to_completion(async move {
            let now = broker.now();
            let signed_in = broker.require_user(&origin, &caller).await?;
            let login = signed_in.login_id;
            if everywhere {
                let note = broker
                    .audit_entry(&origin, Action::LogoutEverywhere)
                    .by_caller(&caller)
                    .on_user(&signed_in.user);
                let user = signed_in.user.id;
                let ended = broker
                    .write(move |book| {
                        book.add_entry(&note);
                        book.end_all_of_user(user, EndReason::SignedOut, &note)
                    })
                    .await?;
                return broker.apply_effects(ended).await;
            }
            let note =
                broker.audit_entry(&origin, Action::Logout).by_caller(&caller).on_login(login);
            broker
                .write(move |book| {
                    book.revoke_login(login, now)?;
                    book.add_entry(&note);
                    Ok(())
                })
                .await?;
            broker.streams().revoke_login(login);
            Ok(())
        })
        .await
    }

    /// The caller's newest logins, including ended ones.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logins(&self, caller: &Principal) -> Result<Vec<LoginView>> {
        let signed_in = self.require_user(&RequestSource::local(""), caller).await?;
        let (user, current, now) = (signed_in.user.id, signed_in.login_id, self.now());
        let logins = self.inner.store.read(move |tx| tx.logins_of(user, LOGINS_MAX)).await?;
        let view = |login: Login| LoginView {
            id: login.id,
            is_current: login.id == current,
            mfa: login.mfa,
            created_at: login.created_at,
            ends_at: login.revoked_at.unwrap_or(login.expires_at),
            is_active: login.is_active(now),
            source_ip: login.source_ip,
            user_agent: login.user_agent,
        };
        Ok(logins.into_iter().map(view).collect())
    }

    /// Revokes another login of the caller and its streams; desktops keep running.
    ///
    /// # Errors
    /// `NotFound` when it is not one of the caller's, or has ended.
    pub async fn end_login(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: LoginId,
    ) -> Result<()> {
        let (user, now) = (self.require_user(origin, caller).await?.user.id, self.now());
        let note = self.audit_entry(origin, Action::Logout).by_caller(caller).on_login(id);
        self.transact(move |book| {
            if !book.login(id)?.is_some_and(|login| login.user_id == user && login.is_active(now)) {
                let denied = note.clone().action(Action::AccessDenied).denied("unknown");
                return book.deny(&denied, Error::not_found("Sign-in"));
            }
            book.revoke_login(id, now)?;
            book.add_entry(&note);
            Ok(Ok(()))
        })
        .await?;
        self.streams().revoke_login(id);
        Ok(())
    }

    /// Public keys of access tokens as a JWK set (RFC 7517); empty before [`Broker::start`].
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        self.inner.keys.get().map_or_else(|| serde_json::json!({ "keys": [] }), TokenKeys::jwks)
    }

    /// Audits a denial by the HTTP layer (bad Origin, missing CSRF header).
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn audit_denial(
        &self,
        origin: &RequestSource,
        caller: Option<&Principal>,
        route: &str,
        reason: &str,
    ) -> Result<()> {
        let note = self
            .audit_entry(origin, Action::AccessDenied)
            .on_named("route", Some(route))
            .denied(reason);
        match caller {
            Some(caller) => self.write_entry(note.by_caller(caller)).await,
            None => self.audit_unauthenticated(origin, note).await,
        }
    }

    /// The stored signing keys, or new ones.
    pub(in crate::broker) async fn keys(&self) -> Result<TokenKeys> {
        let keys = self.inner.keys.get_or_try_init(|| async {
            let (kid, seed) = TokenKeys::generate();
            let vault = self.inner.vault.clone();
            let sealed = vault.seal(&token_key_purpose(&kid), seed.expose());
            let now = self.now();
            let stored = self
                .inner
                .store
                .write(move |tx| {
                    if tx.signing_keys()?.is_empty() {
                        tx.insert_signing_key(&kid, &sealed, now)?;
                    }
                    tx.signing_keys()
                })
                .await?;
            let opened = stored.into_iter().map(|(kid, sealed, _)| {
                Ok((kid.clone(), vault.unseal(&token_key_purpose(&kid), &sealed)?))
            });
            TokenKeys::new(opened.collect::<Result<Vec<_>>>()?)
        });
        keys.await.cloned()
    }
}

fn token_key_purpose(kid: &str) -> String {
    format!("token key:{kid}")
}
