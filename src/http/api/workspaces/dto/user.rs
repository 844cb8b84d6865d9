//! Users.

use crate::broker::model::{NewUser, UserChange};
use crate::domain::Timestamp;
use crate::domain::principal::SignedInUser;
use crate::domain::secret::SecretString;
use crate::domain::user::{Mfa, MfaMethod, Role, User as DomainUser};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Role of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// Launches workspaces.
    Member,
    /// Also manages workspaces, users and hosts, and reads the audit log.
    Admin,
    /// Also reads the audit log, users and live sessions.
    Security,
}

impl From<Role> for UserRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
            Role::Security => Self::Security,
        }
    }
}

impl From<UserRole> for Role {
    fn from(role: UserRole) -> Self {
        match role {
            UserRole::Member => Self::Member,
            UserRole::Admin => Self::Admin,
            UserRole::Security => Self::Security,
        }
    }
}

/// A second factor's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MfaKind {
    /// A time-based one-time code.
    Totp,
}

impl From<MfaMethod> for MfaKind {
    fn from(method: MfaMethod) -> Self {
        match method {
            MfaMethod::Totp => Self::Totp,
        }
    }
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    /// Id.
    pub id: Uuid,
    /// E-mail address.
    pub email: String,
    /// Display name.
    pub name: String,
    /// Role.
    pub role: UserRole,
    /// Organization.
    pub organization_id: Uuid,
    /// Whether a second factor is enrolled.
    pub mfa_enrolled: bool,
    /// A disabled user cannot sign in.
    pub disabled: bool,
}

impl From<&DomainUser> for User {
    fn from(u: &DomainUser) -> Self {
        Self {
            id: u.id.0,
            email: u.email.clone(),
            name: u.name.clone(),
            role: u.role.into(),
            organization_id: u.organization_id.0,
            mfa_enrolled: u.mfa_enrolled,
            disabled: u.disabled,
        }
    }
}

/// A user, for admins and security.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserDetails {
    /// The user.
    #[serde(flatten)]
    pub user: User,
    /// When created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When last signed in.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub last_login_at: Option<Timestamp>,
}

impl From<DomainUser> for UserDetails {
    fn from(u: DomainUser) -> Self {
        Self { user: (&u).into(), created_at: u.created_at, last_login_at: u.last_login_at }
    }
}

/// The second factor that was verified, if one was.
#[derive(Debug, Serialize, ToSchema)]
pub struct MfaProof {
    /// Whether a second factor was verified.
    pub mfa_verified: bool,
    /// Method.
    #[schema(required = true)]
    pub mfa_method: Option<MfaKind>,
    /// Time of the verification.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub mfa_verified_at: Option<Timestamp>,
}

impl From<Option<Mfa>> for MfaProof {
    fn from(mfa: Option<Mfa>) -> Self {
        Self {
            mfa_verified: mfa.is_some(),
            mfa_method: mfa.map(|m| m.method.into()),
            mfa_verified_at: mfa.map(|m| m.verified_at),
        }
    }
}

/// The signed-in user.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The user.
    #[serde(flatten)]
    pub user: User,
    /// The second factor verified in this login.
    #[serde(flatten)]
    pub mfa: MfaProof,
}

impl From<&SignedInUser> for Me {
    fn from(caller: &SignedInUser) -> Self {
        Self { user: (&caller.user).into(), mfa: caller.mfa.into() }
    }
}

/// A user to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// E-mail address; unique.
    email: String,
    /// Display name.
    name: String,
    /// First password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Role.
    role: UserRole,
}

impl From<CreateUser> for NewUser {
    fn from(b: CreateUser) -> Self {
        Self { email: b.email, name: b.name, password: b.password, role: b.role.into() }
    }
}

/// A change of a user; missing fields stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    /// Display name.
    name: Option<String>,
    /// Role.
    role: Option<UserRole>,
    /// Disabling ends every login and session of the user.
    disabled: Option<bool>,
    /// New password.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretString>,
}

impl From<UpdateUser> for UserChange {
    fn from(b: UpdateUser) -> Self {
        Self {
            name: b.name,
            role: b.role.map(Role::from),
            disabled: b.disabled,
            password: b.password,
        }
    }
}
