//! Identifiers: UUID newtypes, and the slug of a workspace.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random (version 4) id.
            #[must_use]
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(UserId);
uuid_id!(
    /// An API key of an organization.
    ApiKeyId
);
uuid_id!(
    /// An organization: every user, workspace, session, host and key belongs to one.
    OrganizationId
);
uuid_id!(
    /// A session: one principal's live or past connection to one workspace.
    SessionId
);
uuid_id!(
    /// A login: one signed-in browser or program, from the first factor to sign-out. Refresh tokens
    /// and streams belong to it.
    LoginId
);
uuid_id!(HostId);

/// Longest workspace id, in bytes.
pub const MAX_WORKSPACE_ID_BYTES: usize = 63;

/// A workspace's id: a slug such as `ws-linux-desktop`: lower-case letters, digits and inner
/// hyphens, 1 to 63 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct WorkspaceId(String);

/// The text is not a workspace slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a workspace id is 1 to 63 lower-case letters, digits and hyphens, starting and ending with a letter or digit"
)]
pub struct InvalidWorkspaceId;

impl WorkspaceId {
    /// Parses a slug.
    ///
    /// # Errors
    /// [`InvalidWorkspaceId`] when it is not one.
    pub fn parse(text: &str) -> Result<Self, InvalidWorkspaceId> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends_ok =
            matches!((bytes.first(), bytes.last()), (Some(&a), Some(&b)) if inner(a) && inner(b));
        if ends_ok
            && bytes.len() <= MAX_WORKSPACE_ID_BYTES
            && bytes.iter().all(|&b| inner(b) || b == b'-')
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidWorkspaceId)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WorkspaceId {
    type Err = InvalidWorkspaceId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for WorkspaceId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Names a workspace: its id is unique in its organization only.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WorkspaceKey {
    pub organization_id: OrganizationId,
    pub id: WorkspaceId,
}

impl fmt::Display for WorkspaceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organization_id, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slugs() {
        for good in ["a", "ws-linux-desktop", "w1", &"x".repeat(63)] {
            assert!(WorkspaceId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "ä", &"x".repeat(64)] {
            assert!(WorkspaceId::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// Every accepted slug is short, safe in a path, a URL and a file name, and parses back to
        /// itself.
        #[test]
        fn accepted_slugs_are_safe(text in "[a-zA-Z0-9-]{0,70}|.{0,8}") {
            if let Ok(id) = WorkspaceId::parse(&text) {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert!(!text.is_empty() && text.len() <= MAX_WORKSPACE_ID_BYTES);
                prop_assert!(!text.starts_with('-') && !text.ends_with('-'));
                prop_assert!(text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
                prop_assert_eq!(text.parse::<WorkspaceId>().unwrap(), id);
            }
        }

        #[test]
        fn every_slug_is_accepted(text in "[a-z0-9]|[a-z0-9][a-z0-9-]{0,61}[a-z0-9]") {
            prop_assert!(WorkspaceId::parse(&text).is_ok());
        }
    }
}
