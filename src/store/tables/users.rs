//! Users. Whether a user has a second factor is not stored here: [`super::totp`] has a confirmed
//! one.

use super::{corrupt_value, parse_text};
use crate::domain::email::email_key;
use crate::domain::user::{Role, User};
use crate::domain::{OrganizationId, Result, Timestamp, UserId};
use crate::store::error;
use crate::store::schema::{totp, users};
use crate::store::transaction::Tx;
use diesel::prelude::*;

/// The row, and when the user's factor was confirmed.
type UserColumns = (UserRow, Option<i64>);

#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
struct UserRow {
    id: String,
    organization_id: String,
    email: String,
    name: String,
    role: String,
    password_hash: String,
    disabled: bool,
    created_at: i64,
    last_login_at: Option<i64>,
}

impl UserRow {
    fn into_user(self, confirmed_at: Option<i64>) -> Result<(User, String)> {
        let user = User {
            id: parse_text(&self.id, "user id")?,
            organization_id: parse_text(&self.organization_id, "organization id")?,
            email: self.email,
            name: self.name,
            role: Role::parse(&self.role).ok_or_else(|| corrupt_value("role"))?,
            mfa_enrolled: confirmed_at.is_some(),
            disabled: self.disabled,
            created_at: Timestamp(self.created_at),
            last_login_at: self.last_login_at.map(Timestamp),
        };
        Ok((user, self.password_hash))
    }
}

macro_rules! select_users {
    () => {
        users::table
            .left_join(totp::table)
            .select((UserRow::as_select(), totp::confirmed_at.nullable()))
    };
}

impl Tx<'_> {
    /// Inserts a user. `mfa_enrolled` is ignored: a factor is enrolled by [`Tx::confirm_totp`].
    ///
    /// # Errors
    /// `Conflict` when the address, in any spelling, is another user's.
    pub fn insert_user(&mut self, user: &User, password_hash: &str) -> Result<()> {
        let row = (
            users::id.eq(user.id.to_string()),
            users::organization_id.eq(user.organization_id.to_string()),
            users::email.eq(&user.email),
            users::email_key.eq(email_key(&user.email)),
            users::name.eq(&user.name),
            users::role.eq(user.role.as_str()),
            users::password_hash.eq(password_hash),
            users::disabled.eq(user.disabled),
            users::created_at.eq(user.created_at.0),
            users::last_login_at.eq(user.last_login_at.map(|at| at.0)),
        );
        self.savepoint(|conn| diesel::insert_into(users::table).values(row).execute(conn))
            .map_err(error::on_unique_violation(
                "There is already a user with this e-mail address.",
            ))?;
        Ok(())
    }

    pub fn user(&mut self, id: UserId) -> Result<Option<User>> {
        let found: Option<UserColumns> =
            select_users!().filter(users::id.eq(id.to_string())).first(self.conn).optional()?;
        found.map(|(row, confirmed)| Ok(row.into_user(confirmed)?.0)).transpose()
    }

    /// The user with this address, in any spelling ([`email_key`]), and the hash of their password.
    pub fn user_by_email(&mut self, email: &str) -> Result<Option<(User, String)>> {
        // PostgreSQL cannot compare with a text that contains NUL, and no address does.
        if email.contains('\0') {
            return Ok(None);
        }
        let found: Option<UserColumns> = select_users!()
            .filter(users::email_key.eq(email_key(email)))
            .first(self.conn)
            .optional()?;
        found.map(|(row, confirmed)| row.into_user(confirmed)).transpose()
    }

    /// The users of an organization, by address.
    pub fn users(&mut self, organization: OrganizationId) -> Result<Vec<User>> {
        let found: Vec<UserColumns> = select_users!()
            .filter(users::organization_id.eq(organization.to_string()))
            .order(users::email_key)
            .load(self.conn)?;
        found.into_iter().map(|(row, confirmed)| Ok(row.into_user(confirmed)?.0)).collect()
    }

    /// Stores a user's name, role and whether they are disabled; false when there is no such user.
    pub fn update_user(&mut self, user: &User) -> Result<bool> {
        let change = (
            users::name.eq(&user.name),
            users::role.eq(user.role.as_str()),
            users::disabled.eq(user.disabled),
        );
        Ok(diesel::update(users::table.find(user.id.to_string())).set(change).execute(self.conn)?
            == 1)
    }

    /// Replaces the hash of a user's password.
    pub fn set_password(&mut self, id: UserId, password_hash: &str) -> Result<bool> {
        let change = users::password_hash.eq(password_hash);
        Ok(diesel::update(users::table.find(id.to_string())).set(change).execute(self.conn)? == 1)
    }

    pub fn set_last_login(&mut self, id: UserId, now: Timestamp) -> Result<()> {
        diesel::update(users::table.find(id.to_string()))
            .set(users::last_login_at.eq(now.0))
            .execute(self.conn)?;
        Ok(())
    }
}
