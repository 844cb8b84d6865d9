//! Requests to web applications, written down; and who the user is, signed for an application.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`RequestRecord`] | a request that was; written in batches, beside the audit log, since there are many and each says little |
//! | [`RequestRefused`] | a request that policy forbids: an audit entry, bounded by whoever counts them |
//! | assertion | a JWT of a minute's life that tells one application who its user is |

use super::record::{cut, whole};
use super::sessions::SESSION;
use super::views::Page;
use super::{Broker, input};
use crate::auth::token::{Assertion, ISSUER};
use crate::domain::audit::Action;
use crate::domain::lease::Lease;
use crate::domain::policy::Act;
use crate::domain::secret::SecretString;
use crate::domain::user::{Caller, Origin};
use crate::domain::web::RequestRecord;
use crate::domain::{Error, Result, SessionId};
use std::time::Duration;
use uuid::Uuid;

/// Life of an assertion.
pub const ASSERTION_TTL: Duration = Duration::from_secs(60);
/// Longest path that is written into the audit log, in bytes.
const PATH_MAX: usize = 512;
/// Longest method, in bytes.
const METHOD_MAX: usize = 32;

/// Requests that policy forbids, of one kind: the last one of them, and how many there were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestRefused {
    /// `method`, `path`, `upload`, `download`, `size` or `origin`.
    pub kind: &'static str,
    /// Method of the last one.
    pub method: String,
    /// Path of the last one, without its query.
    pub path: String,
    /// Bytes held back, of all of them, as far as they were said beforehand.
    pub bytes: u64,
    /// How many.
    pub count: u64,
}

impl Broker {
    /// Writes down requests of a session, in their order: all of them, or none.
    ///
    /// # Errors
    /// When the store cannot write them.
    pub async fn log_requests(&self, session: SessionId, records: Vec<RequestRecord>) -> Result<()> {
        self.inner.store.write(move |tx| tx.add_app_requests(session, &records)).await
    }

    /// A page of the requests of a session of the caller's organization, newest first, each with its place in the session.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid` when limit or cursor are not acceptable.
    pub async fn requests(
        &self,
        origin: &Origin,
        caller: &Caller,
        id: SessionId,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<(i64, RequestRecord)>> {
        let organization = self.permit(origin, caller, Act::ReadAudit).await?.organization_id();
        let limit = input::limit(limit, 100)?;
        let before = cursor.map(|c| c.parse().map_err(|_| Error::invalid("cursor must be one that a former page gave."))).transpose()?;
        let found = self
            .inner
            .store
            .read(move |tx| {
                let theirs = tx.session(id)?.is_some_and(|session| session.organization_id == organization);
                if theirs { tx.app_requests(id, before, limit + 1).map(Some) } else { Ok(None) }
            })
            .await?;
        match found {
            Some(rows) => Ok(input::page(rows, limit, |(seq, _)| seq.to_string())),
            None => {
                let note = self.note(origin, Action::AccessDenied).by(caller).on_session_id(id);
                self.write_note(note.denied("unknown")).await?;
                Err(Error::not_found(SESSION))
            }
        }
    }

    /// Writes down that policy kept requests from an application.
    ///
    /// # Errors
    /// When the store cannot write it down.
    pub async fn note_refused_request(&self, origin: &Origin, lease: &Lease, by: Option<&Caller>, refused: &RequestRefused) -> Result<()> {
        let note = self.note(origin, Action::RequestRefused).on_session(lease.session()).denied(refused.kind);
        let note = match by {
            Some(caller) => note.by(caller),
            None => note.by_system(),
        };
        let note = note.with("method", cut(&refused.method, METHOD_MAX)).with("path", cut(&refused.path, PATH_MAX));
        self.write_note(note.with("bytes", whole(refused.bytes)).with("count", whole(refused.count))).await
    }

    /// Who a user is, signed for one application; good for [`ASSERTION_TTL`].
    ///
    /// # Errors
    /// `Invalid` when the audience is this gateway's own; when the signing keys cannot be read.
    pub async fn assert_identity(&self, caller: &Caller, audience: &str) -> Result<SecretString> {
        let now = self.now();
        let assertion = Assertion {
            sub: caller.user.id,
            email: caller.user.email.clone(),
            name: caller.user.name.clone(),
            groups: vec![caller.user.role.as_str().to_owned()],
            iat: now.unix_seconds(),
            exp: now.after(ASSERTION_TTL).unix_seconds(),
            iss: ISSUER.to_owned(),
            aud: audience.to_owned(),
            jti: Uuid::new_v4().to_string(),
        };
        self.keys().await?.sign_assertion(&assertion).map(SecretString::new)
    }
}
