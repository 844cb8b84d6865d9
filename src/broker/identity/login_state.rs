//! Whether a login is valid.

use crate::domain::Timestamp;
use crate::domain::audit::Reason;
use crate::domain::principal::SignedInUser;
use crate::domain::user::User;
use crate::store::Login;

/// Whether a login and its user are valid in the store.
pub(super) enum LoginState {
    Valid(Box<SignedInUser>),
    Invalid(Reason, Option<Box<User>>),
}

pub(super) fn login_state(login: Option<Login>, user: Option<User>, now: Timestamp) -> LoginState {
    match (login, user) {
        (Some(login), Some(user)) => {
            let reason = if login.revoked_at.is_some() {
                Reason::Revoked
            } else if now >= login.expires_at {
                Reason::LoginExpired
            } else if user.disabled {
                Reason::Disabled
            } else if login.user_id != user.id {
                Reason::Forged
            } else {
                return LoginState::Valid(Box::new(SignedInUser {
                    user,
                    login_id: login.id,
                    mfa: login.mfa,
                }));
            };
            LoginState::Invalid(reason, Some(Box::new(user)))
        }
        (_, user) => LoginState::Invalid(Reason::UnknownLogin, user.map(Box::new)),
    }
}
