//! Who asks for something, and how a session, a ticket and an audit entry remember it.

use super::user::{Mfa, Role, User};
use super::{ApiKeyId, LoginId, OrganizationId, UserId};

/// Who asks. Only the broker makes one: of a token whose login is active, or for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// A person.
    User(SignedInUser),
    /// A program of an organization.
    ApiKey(ApiKey),
    /// The gateway itself, or its operator at the command line. Without an organization it acts for
    /// the gateway as a whole.
    System { organization_id: Option<OrganizationId> },
}

/// A user with an active login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedInUser {
    /// As stored now: the token's role does not count.
    pub user: User,
    pub login_id: LoginId,
    /// The second factor verified in that login.
    pub mfa: Option<Mfa>,
}

/// An API key: it belongs to an organization, not to a user, and has no second factor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub organization_id: OrganizationId,
    pub name: String,
    pub role: Role,
}

/// A principal as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PrincipalId {
    User(UserId),
    ApiKey(ApiKeyId),
    System,
}

impl PrincipalId {
    /// Its kind in the store.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::ApiKey(_) => "api_key",
            Self::System => "system",
        }
    }

    /// The principal of a stored kind and its ids; `None` when they contradict each other.
    #[must_use]
    pub fn from_parts(kind: &str, user: Option<UserId>, api_key: Option<ApiKeyId>) -> Option<Self> {
        match (kind, user, api_key) {
            ("user", Some(user), None) => Some(Self::User(user)),
            ("api_key", None, Some(key)) => Some(Self::ApiKey(key)),
            ("system", None, None) => Some(Self::System),
            _ => None,
        }
    }

    #[must_use]
    pub fn user_id(self) -> Option<UserId> {
        match self {
            Self::User(id) => Some(id),
            Self::ApiKey(_) | Self::System => None,
        }
    }

    #[must_use]
    pub fn api_key_id(self) -> Option<ApiKeyId> {
        match self {
            Self::ApiKey(id) => Some(id),
            Self::User(_) | Self::System => None,
        }
    }
}

impl Principal {
    #[must_use]
    pub fn id(&self) -> PrincipalId {
        match self {
            Self::User(signed_in) => PrincipalId::User(signed_in.user.id),
            Self::ApiKey(key) => PrincipalId::ApiKey(key.id),
            Self::System { .. } => PrincipalId::System,
        }
    }

    /// `None` for a system principal that acts for the gateway as a whole.
    #[must_use]
    pub fn organization_id(&self) -> Option<OrganizationId> {
        match self {
            Self::User(signed_in) => Some(signed_in.user.organization_id),
            Self::ApiKey(key) => Some(key.organization_id),
            Self::System { organization_id } => *organization_id,
        }
    }

    /// `None` for a system principal: what it may do does not depend on a role.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::User(signed_in) => Some(signed_in.user.role),
            Self::ApiKey(key) => Some(key.role),
            Self::System { .. } => None,
        }
    }

    #[must_use]
    pub fn user(&self) -> Option<&SignedInUser> {
        match self {
            Self::User(signed_in) => Some(signed_in),
            Self::ApiKey(_) | Self::System { .. } => None,
        }
    }

    #[must_use]
    pub fn user_id(&self) -> Option<UserId> {
        self.id().user_id()
    }

    #[must_use]
    pub fn login_id(&self) -> Option<LoginId> {
        self.user().map(|signed_in| signed_in.login_id)
    }

    /// The second factor verified in its login.
    #[must_use]
    pub fn mfa(&self) -> Option<Mfa> {
        self.user().and_then(|signed_in| signed_in.mfa)
    }

    /// What people are shown: the user's name, the key's name.
    #[must_use]
    pub fn display_name(&self) -> &str {
        match self {
            Self::User(signed_in) => &signed_in.user.name,
            Self::ApiKey(_) | Self::System { .. } => self.name(),
        }
    }

    /// What a session is listed under: the user's e-mail address, the key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::User(signed_in) => &signed_in.user.email,
            Self::ApiKey(key) => &key.name,
            Self::System { .. } => "system",
        }
    }
}

impl From<SignedInUser> for Principal {
    fn from(signed_in: SignedInUser) -> Self {
        Self::User(signed_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_ids_read_back() {
        for id in [
            PrincipalId::User(UserId::new()),
            PrincipalId::ApiKey(ApiKeyId::new()),
            PrincipalId::System,
        ] {
            let read = PrincipalId::from_parts(id.kind(), id.user_id(), id.api_key_id());
            assert_eq!(read, Some(id));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let (user, key) = (Some(UserId::new()), Some(ApiKeyId::new()));
        for (kind, user, key) in [
            ("user", None, None),
            ("user", user, key),
            ("user", None, key),
            ("api_key", None, None),
            ("api_key", user, None),
            ("system", user, None),
            ("system", None, key),
            ("", None, None),
        ] {
            assert_eq!(PrincipalId::from_parts(kind, user, key), None, "{kind}");
        }
    }
}
