//! Logins: signed-in browsers and programs, and their refresh tokens.

use super::{parse_mfa, parse_text};
use crate::domain::principal::Principal;
use crate::domain::user::Mfa;
use crate::domain::{LoginId, OrganizationId, Result, Timestamp, UserId};
use crate::store::schema::{logins, refresh_tokens, users};
use crate::store::transaction::Tx;
use diesel::dsl::exists;
use diesel::prelude::*;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    pub id: LoginId,
    pub user_id: UserId,
    pub organization_id: OrganizationId,
    pub mfa: Option<Mfa>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// When it was ended before its expiry.
    pub revoked_at: Option<Timestamp>,
    pub source_ip: Option<String>,
    pub user_agent: Option<String>,
}

impl Login {
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

/// A refresh token of a login: it works once. A second use indicates theft, and the broker revokes
/// the login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefreshTokenRow {
    pub login_id: LoginId,
    pub used_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = logins, treat_none_as_default_value = false)]
struct LoginRow {
    id: String,
    user_id: String,
    organization_id: String,
    mfa_method: Option<String>,
    mfa_verified_at: Option<i64>,
    created_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
    source_ip: Option<String>,
    user_agent: Option<String>,
}

impl LoginRow {
    fn into_login(self) -> Result<Login> {
        Ok(Login {
            id: parse_text(&self.id, "login id")?,
            user_id: parse_text(&self.user_id, "user id")?,
            organization_id: parse_text(&self.organization_id, "organization id")?,
            mfa: parse_mfa(self.mfa_method.as_deref(), self.mfa_verified_at)?,
            created_at: Timestamp(self.created_at),
            expires_at: Timestamp(self.expires_at),
            revoked_at: self.revoked_at.map(Timestamp),
            source_ip: self.source_ip,
            user_agent: self.user_agent,
        })
    }
}

impl Tx<'_> {
    pub fn insert_login(&mut self, login: &Login) -> Result<()> {
        let row = LoginRow {
            id: login.id.to_string(),
            user_id: login.user_id.to_string(),
            organization_id: login.organization_id.to_string(),
            mfa_method: login.mfa.map(|mfa| mfa.method.as_str().to_owned()),
            mfa_verified_at: login.mfa.map(|mfa| mfa.verified_at.0),
            created_at: login.created_at.0,
            expires_at: login.expires_at.0,
            revoked_at: login.revoked_at.map(|at| at.0),
            source_ip: login.source_ip.clone(),
            user_agent: login.user_agent.clone(),
        };
        diesel::insert_into(logins::table).values(row).execute(self.conn)?;
        Ok(())
    }

    pub fn login(&mut self, id: LoginId) -> Result<Option<Login>> {
        let row: Option<LoginRow> = logins::table
            .find(id.to_string())
            .select(LoginRow::as_select())
            .first(self.conn)
            .optional()?;
        row.map(LoginRow::into_login).transpose()
    }

    /// A user's newest logins, active or not.
    pub fn logins_of(&mut self, user: UserId, limit: usize) -> Result<Vec<Login>> {
        let rows: Vec<LoginRow> = logins::table
            .filter(logins::user_id.eq(user.to_string()))
            .order((logins::created_at.desc(), logins::id.desc()))
            .limit(super::limit(limit))
            .select(LoginRow::as_select())
            .load(self.conn)?;
        rows.into_iter().map(LoginRow::into_login).collect()
    }

    /// Whether a principal is valid now: a user's login is theirs and active, and their account is
    /// enabled. No API key is stored, so none is valid; the system has no login.
    pub fn principal_is_valid(&mut self, principal: &Principal, now: Timestamp) -> Result<bool> {
        let Some(signed_in) = principal.user() else { return Ok(false) };
        let valid = logins::table
            .inner_join(users::table)
            .filter(logins::id.eq(signed_in.login_id.to_string()))
            .filter(logins::user_id.eq(signed_in.user.id.to_string()))
            .filter(logins::revoked_at.is_null())
            .filter(logins::expires_at.gt(now.0))
            .filter(users::disabled.eq(false));
        Ok(diesel::select(exists(valid)).get_result(self.conn)?)
    }

    pub fn set_login_mfa(&mut self, id: LoginId, mfa: Mfa) -> Result<bool> {
        let change = (
            logins::mfa_method.eq(mfa.method.as_str()),
            logins::mfa_verified_at.eq(mfa.verified_at.0),
        );
        Ok(diesel::update(logins::table.find(id.to_string())).set(change).execute(self.conn)? == 1)
    }

    /// Moves the expiry of a login that is not revoked.
    pub fn extend_login(&mut self, id: LoginId, expires_at: Timestamp) -> Result<bool> {
        let alive = logins::table.find(id.to_string()).filter(logins::revoked_at.is_null());
        Ok(diesel::update(alive).set(logins::expires_at.eq(expires_at.0)).execute(self.conn)? == 1)
    }

    /// Revokes a login: false when it was revoked before.
    pub fn revoke_login(&mut self, id: LoginId, now: Timestamp) -> Result<bool> {
        let alive = logins::table.find(id.to_string()).filter(logins::revoked_at.is_null());
        Ok(diesel::update(alive).set(logins::revoked_at.eq(now.0)).execute(self.conn)? == 1)
    }

    /// Revokes every active login of a user and returns their ids.
    pub fn revoke_logins_of(&mut self, user: UserId, now: Timestamp) -> Result<Vec<LoginId>> {
        let alive = logins::table
            .filter(logins::user_id.eq(user.to_string()))
            .filter(logins::revoked_at.is_null())
            .filter(logins::expires_at.gt(now.0));
        let ids: Vec<String> = diesel::update(alive)
            .set(logins::revoked_at.eq(now.0))
            .returning(logins::id)
            .get_results(self.conn)?;
        ids.iter().map(|id| parse_text(id, "login id")).collect()
    }

    pub fn insert_refresh_token(
        &mut self,
        hash: &str,
        login: LoginId,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<()> {
        let row = (
            refresh_tokens::hash.eq(hash),
            refresh_tokens::login_id.eq(login.to_string()),
            refresh_tokens::created_at.eq(now.0),
            refresh_tokens::expires_at.eq(expires_at.0),
        );
        diesel::insert_into(refresh_tokens::table).values(row).execute(self.conn)?;
        Ok(())
    }

    /// The refresh token with this hash, used or not.
    pub fn refresh_token(&mut self, hash: &str) -> Result<Option<RefreshTokenRow>> {
        let columns =
            (refresh_tokens::login_id, refresh_tokens::used_at, refresh_tokens::expires_at);
        let row: Option<(String, Option<i64>, i64)> =
            refresh_tokens::table.find(hash).select(columns).first(self.conn).optional()?;
        row.map(|(login, used, expires)| {
            Ok(RefreshTokenRow {
                login_id: parse_text(&login, "login id")?,
                used_at: used.map(Timestamp),
                expires_at: Timestamp(expires),
            })
        })
        .transpose()
    }

    /// Consumes a refresh token: false when it was used before or has expired. Of two that race,
    /// one wins.
    pub fn consume_refresh_token(&mut self, hash: &str, now: Timestamp) -> Result<bool> {
        let unused = refresh_tokens::table
            .find(hash)
            .filter(refresh_tokens::used_at.is_null())
            .filter(refresh_tokens::expires_at.gt(now.0));
        Ok(diesel::update(unused).set(refresh_tokens::used_at.eq(now.0)).execute(self.conn)? == 1)
    }
}
