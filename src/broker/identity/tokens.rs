//! Access and refresh tokens, logins, and authentication of requests.
//!
//! A **login** is one signed-in browser or program. It issues short-lived access tokens (JWT) and a
//! chain of refresh tokens, each for one use. A refresh token that is used twice is held by two
//! parties, so its login is revoked with its streams. Whether a login is valid is always read from
//! the store, never from the token.

use crate::auth::{Claims, TokenKeys, opaque, token};
use crate::broker::core::answers::invalid_token;
use crate::broker::core::settings::Settings;
use crate::broker::core::signing_keys::SigningKeys;
use crate::broker::core::stream_registry::StreamRegistry;
use crate::broker::core::task::spawn_to_completion;
use crate::broker::core::teardown::Teardown;
use crate::broker::core::text::token_hash;
use crate::broker::core::unit_of_work::{AuditedStore, AuditedTx, Decision};
use crate::broker::identity::login_state::{LoginState, login_state};
use crate::broker::model::{KnownBrowserCookie, LoginView, Tokens};
use crate::domain::audit::{Action, Reason};
use crate::domain::principal::{Principal, SignedInUser};
use crate::domain::secret::SecretString;
use crate::domain::session::EndReason;
use crate::domain::user::{Mfa, RequestSource, User};
use crate::domain::{Error, LoginId, Result, Timestamp};
use crate::store::Login;
use std::sync::Arc;
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
        source: &RequestSource,
        settings: &Settings,
        now: Timestamp,
    ) -> Self {
        Self {
            id: LoginId::new(),
            refresh: opaque::new_token("prt_"),
            source_ip: source.source_ip.map(|ip| ip.to_string()),
            user_agent: source.user_agent.clone(),
            now,
            expires_at: now.after(settings.refresh_ttl),
        }
    }

    pub(in crate::broker) fn refresh_hash(&self) -> String {
        opaque::hash(self.refresh.expose())
    }

    pub(in crate::broker) fn insert(
        &self,
        tx: &mut AuditedTx<'_, '_>,
        user: &User,
        mfa: Option<Mfa>,
        refresh_hash: &str,
    ) -> Result<SignedInUser> {
        tx.insert_login(&Login {
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
        tx.insert_refresh_token(refresh_hash, self.id, self.expires_at, self.now)?;
        tx.set_last_login(user.id, self.now)?;
        let user = User { last_login_at: Some(self.now), ..user.clone() };
        Ok(SignedInUser { user, login_id: self.id, mfa })
    }

    pub(in crate::broker) fn tokens(
        self,
        keys: &TokenKeys,
        settings: &Settings,
        caller: SignedInUser,
        known_browser: KnownBrowserCookie,
    ) -> Result<Tokens> {
        let tokens = issue_tokens(keys, settings, caller, self.refresh.clone(), self.now)?;
        Ok(Tokens { known_browser: Some(known_browser), ..tokens })
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
        known_browser: None,
        wrong_codes: 0,
    })
}

#[derive(Clone)]
pub struct Logins {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) keys: SigningKeys,
    pub(in crate::broker) settings: Arc<Settings>,
    pub(in crate::broker) streams: StreamRegistry,
    pub(in crate::broker) teardown: Teardown,
}

impl Logins {
    /// Authenticates an access token: signature, expiry, login, user. A refused token is audited
    /// (`token_refused`), within the rate limit of its source address.
    ///
    /// # Errors
    /// `Unauthenticated` whatever is wrong with it; `Unavailable` when the store is.
    pub async fn authenticate(
        &self,
        source: &RequestSource,
        access_token: &str,
    ) -> Result<Principal> {
        let now = self.store.now();
        let claims = match self.keys.get().await?.verify(access_token, now) {
            Ok(claims) => claims,
            Err(refused) => {
                let expired =
                    refused.source.as_ref().is_some_and(|cause| cause.to_string() == "expired");
                let entry = self.store.entry(source, Action::TokenRefused).denied(if expired {
                    Reason::Expired
                } else {
                    Reason::Forged
                });
                self.store.audit_unauthenticated(source, entry).await?;
                return Err(refused);
            }
        };
        let found =
            self.store.read(move |tx| Ok((tx.login(claims.sid)?, tx.user(claims.sub)?))).await?;
        match login_state(found.0, found.1, now) {
            LoginState::Valid(caller) => Ok(Principal::User(*caller)),
            LoginState::Invalid(reason, user) => {
                let entry = self
                    .store
                    .entry(source, Action::TokenRefused)
                    .on_login(claims.sid)
                    .denied(reason);
                let entry = user.as_deref().map_or(entry.clone(), |user| entry.by_user(user));
                self.store.audit_unauthenticated(source, entry).await?;
                Err(invalid_token())
            }
        }
    }

    /// Issues new tokens for a refresh token and consumes it. `access_token`: the one that the same
    /// client has, which may have expired; both must be of one login.
    ///
    /// # Errors
    /// `Unauthenticated`; when the token was used before, its login is revoked and its streams are
    /// cut.
    pub async fn refresh(
        &self,
        source: &RequestSource,
        refresh_token: &SecretString,
        access_token: Option<&str>,
    ) -> Result<Tokens> {
        let keys = self.keys.get().await?;
        let claims = access_token.map(|token| keys.verify_at_any_time(token)).transpose();
        if claims.is_err() {
            let entry = self.store.entry(source, Action::TokenRefused).denied(Reason::Forged);
            self.store.audit_unauthenticated(source, entry).await?;
        }
        let beside = claims?.map(|claims| claims.sid);
        let this = self.clone();
        let (source, hash) = (source.clone(), token_hash(refresh_token));
        spawn_to_completion(async move { this.run_refresh(&source, hash, beside).await }).await
    }

    async fn run_refresh(
        &self,
        source: &RequestSource,
        hash: String,
        beside: Option<LoginId>,
    ) -> Result<Tokens> {
        enum Outcome {
            Renewed(Box<SignedInUser>),
            Unknown,
            OtherLogin,
            Refused(LoginId, Error),
        }
        let keys = self.keys.get().await?;
        let now = self.store.now();
        let fresh = opaque::new_token("prt_");
        let fresh_hash = opaque::hash(fresh.expose());
        let expires_at = now.after(self.settings.refresh_ttl);
        let entry = self.store.entry(source, Action::Refresh);
        let outcome = self
            .store
            .write(move |tx| {
                let Some(row) = tx.refresh_token(&hash)? else { return Ok(Outcome::Unknown) };
                let login = tx.login(row.login_id)?;
                let user = login.as_ref().map(|l| tx.user(l.user_id)).transpose()?.flatten();
                let entry = user
                    .as_ref()
                    .map_or(entry.clone(), |user| entry.clone().by_user(user))
                    .on_login(row.login_id);
                if beside.is_some_and(|login| login != row.login_id) {
                    tx.add_entry(&entry.action(Action::TokenRefused).denied(Reason::OtherLogin));
                    return Ok(Outcome::OtherLogin);
                }
                if row.used_at.is_some() || !tx.consume_refresh_token(&hash, now)? {
                    let entry = entry.action(Action::RefreshReuse).denied(Reason::Reused);
                    if login.is_some_and(|login| login.revoked_at.is_some()) {
                        tx.add_refusal(&entry);
                    } else {
                        tx.revoke_login(row.login_id, now)?;
                        tx.add_entry(&entry);
                    }
                    return Ok(Outcome::Refused(row.login_id, invalid_token()));
                }
                let standing = if now >= row.expires_at {
                    LoginState::Invalid(Reason::Expired, None)
                } else {
                    login_state(login, user, now)
                };
                match standing {
                    LoginState::Valid(caller) => {
                        tx.insert_refresh_token(&fresh_hash, caller.login_id, expires_at, now)?;
                        tx.extend_login(caller.login_id, expires_at)?;
                        tx.add_entry(&entry);
                        Ok(Outcome::Renewed(caller))
                    }
                    LoginState::Invalid(reason, _) => {
                        tx.add_entry(&entry.action(Action::TokenRefused).denied(reason));
                        Ok(Outcome::Refused(row.login_id, invalid_token()))
                    }
                }
            })
            .await?;
        match outcome {
            Outcome::Renewed(caller) => issue_tokens(&keys, &self.settings, *caller, fresh, now),
            Outcome::OtherLogin => Err(invalid_token()),
            Outcome::Refused(login, error) => {
                self.streams.revoke_login(login);
                Err(error)
            }
            Outcome::Unknown => {
                let entry = self
                    .store
                    .entry(source, Action::TokenRefused)
                    .denied(Reason::UnknownRefreshToken);
                self.store.audit_unauthenticated(source, entry).await?;
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
        source: &RequestSource,
        caller: &Principal,
        everywhere: bool,
    ) -> Result<()> {
        let (this, source, caller) = (self.clone(), source.clone(), caller.clone());
        spawn_to_completion(async move {
            let now = this.store.now();
            let signed_in = this.store.require_user(&source, &caller).await?;
            let login = signed_in.login_id;
            if everywhere {
                let entry = this
                    .store
                    .entry(&source, Action::LogoutEverywhere)
                    .by_caller(&caller)
                    .on_user(&signed_in.user);
                let user = signed_in.user.id;
                let ended = this
                    .store
                    .write(move |tx| {
                        tx.add_entry(&entry);
                        tx.end_all_of_user(user, EndReason::SignedOut, &entry)
                    })
                    .await?;
                return this.teardown.apply_effects(ended).await;
            }
            let entry =
                this.store.entry(&source, Action::Logout).by_caller(&caller).on_login(login);
            this.store
                .write(move |tx| {
                    tx.revoke_login(login, now)?;
                    tx.add_entry(&entry);
                    Ok(())
                })
                .await?;
            this.streams.revoke_login(login);
            Ok(())
        })
        .await
    }

    /// The caller's newest logins, including ended ones.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, caller: &Principal) -> Result<Vec<LoginView>> {
        let signed_in = self.store.require_user(&RequestSource::local(""), caller).await?;
        let (user, current, now) = (signed_in.user.id, signed_in.login_id, self.store.now());
        let logins = self.store.list(move |tx| tx.logins_of(user, LOGINS_MAX)).await?;
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
    pub async fn revoke(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: LoginId,
    ) -> Result<()> {
        let (user, now) =
            (self.store.require_user(source, caller).await?.user.id, self.store.now());
        let entry = self.store.entry(source, Action::Logout).by_caller(caller).on_login(id);
        self.store
            .transact(move |tx| {
                if !tx.login(id)?.is_some_and(|login| login.user_id == user && login.is_active(now))
                {
                    let denied = entry.clone().access_denied().denied(Reason::Unknown);
                    return tx.deny(&denied, Error::not_found("Sign-in"));
                }
                tx.revoke_login(id, now)?;
                tx.add_entry(&entry);
                Ok(Decision::Allowed(()))
            })
            .await?;
        self.streams.revoke_login(id);
        Ok(())
    }

    /// Public keys of access tokens as a JWK set (RFC 7517); empty before [`Broker::start`].
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        self.keys.jwks()
    }
}
