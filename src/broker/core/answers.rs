//! Error answers that several use cases share.

use crate::domain::audit::Reason;
use crate::domain::policy::Denial;
use crate::domain::principal::Principal;
use crate::domain::{Error, OrganizationId, Result};

/// Names of resources in "not found" answers.
/// What an id that is unknown, or not theirs, is called.
pub(in crate::broker) const SESSION: &str = "Session";
pub(in crate::broker) const WORKSPACE: &str = "Workspace";
pub(in crate::broker) const HOST: &str = "Host";
pub(in crate::broker) const USER: &str = "User";

pub(in crate::broker) fn invalid_token() -> Error {
    Error::unauthenticated("Invalid or expired token")
}

pub(in crate::broker) fn not_active() -> Error {
    Error::conflict("Session is not active")
}

/// The organization of a principal; a system principal may act for the gateway as a whole, which
/// has none.
pub(in crate::broker) fn organization_of(principal: &Principal) -> Result<OrganizationId> {
    principal.organization_id().ok_or_else(|| Error::not_found("Organization"))
}

/// The reason in the log for a session that is not the caller's: of their organization, or unknown.
/// One of another organization is as unknown as one that does not exist: the readers of the log could
/// tell otherwise which ids there are elsewhere.
pub(in crate::broker) fn hidden_reason(
    caller: &Principal,
    organization: Option<OrganizationId>,
) -> Reason {
    match organization {
        Some(_) if organization == caller.organization_id() => Reason::from(Denial::NotOwner),
        Some(_) | None => Reason::Unknown,
    }
}

/// The error a user gets for a denial.
pub(in crate::broker) fn denial_error(denial: Denial, what: &str) -> Error {
    match denial {
        Denial::Role => Error::forbidden("Your role does not allow this."),
        Denial::MfaRequired => {
            Error::forbidden("This workspace needs a second factor. Sign in again with your code.")
        }
        Denial::NotOwner => Error::not_found(what),
        Denial::NotActive => Error::conflict("Session is not active"),
        Denial::Disabled => Error::unauthenticated("Invalid or expired token"),
    }
}
