//! Request log of web applications, and identity assertions.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`RequestRecord`] | one request; written in batches to its own table, because there are many |
//! | [`RefusedRequest`] | requests that policy forbids: an audit entry, rate-limited by the caller |
//! | assertion | a JWT, valid for a minute, that tells one application who its user is |

use crate::auth::token::{Assertion, ISSUER};
use crate::broker::core::answers::SESSION;
use crate::broker::core::log_search::{SearchKind, SearchSlots, gather};
use crate::broker::core::signing_keys::SigningKeys;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::core::validate;
use crate::broker::model::{RequestQuery, SearchPage};
use crate::domain::audit::{Action, Reason};
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::secret::SecretString;
use crate::domain::user::RequestSource;
use crate::domain::web_app::RequestRecord;
use crate::domain::{Error, Result, SessionId};
use crate::store::{RequestFilter, SearchTx};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

pub const ASSERTION_TTL: Duration = Duration::from_secs(60);
/// Maximum length of a path in the audit log, in bytes.
const PATH_MAX: usize = 512;
/// Maximum length of a method, in bytes.
const METHOD_MAX: usize = 32;

/// What the query selects; a text that is too long for any request is refused.
fn filter(query: RequestQuery) -> Result<RequestFilter> {
    let RequestQuery { method, path, status, outcome, cursor: _, limit: _, after: _ } = query;
    for (what, text, most) in [("method", &method, METHOD_MAX), ("path", &path, PATH_MAX)] {
        if text.as_ref().is_some_and(|text| text.len() > most) {
            return Err(Error::invalid(format!("{what} must be at most {most} bytes.")));
        }
    }
    Ok(RequestFilter { method, path, status, outcome })
}

#[derive(Clone)]
pub struct WebRequests {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) keys: SigningKeys,
    pub(in crate::broker) slots: SearchSlots,
}

impl WebRequests {
    /// Stores requests of a session in order: all of them or none.
    ///
    /// # Errors
    /// When the store cannot write them.
    pub async fn store(&self, session: SessionId, records: Arc<Vec<RequestRecord>>) -> Result<()> {
        self.store.write_unaudited(move |tx| tx.add_app_requests(session, &records)).await
    }

    /// A page of the requests of a session that a query selects, newest first, each with its
    /// sequence number, as far as they are found within the time limit of searches.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid` when the query is not acceptable; `Throttled` when the
    /// caller searches too much at once.
    pub async fn list(
        &self,
        source: &RequestSource,
        caller: &Principal,
        id: SessionId,
        query: impl TryInto<RequestQuery, Error: Into<Error>>,
    ) -> Result<SearchPage<(i64, RequestRecord)>> {
        let tried = self.store.entry(source, Action::AccessDenied).on_session_id(id);
        let organization =
            self.store.permit_act(source, caller, PolicyAction::ReadAudit, tried).await?;
        let query = validate::convert(query)?;
        let limit = validate::page_limit(query.limit, 100)?;
        let before = query.cursor.as_deref().map(validate::parse_seq).transpose()?;
        let after = query.after.unwrap_or(0).max(0);
        let filter = filter(query)?;
        let session = self.store.read(move |tx| tx.session(id)).await?;
        if session.is_none_or(|session| session.organization_id != organization) {
            let entry =
                self.store.entry(source, Action::AccessDenied).by_caller(caller).on_session_id(id);
            self.store.write_entry(entry.denied(Reason::Unknown)).await?;
            return Err(Error::not_found(SESSION));
        }
        let _slot = self.slots.acquire(caller.id(), SearchKind::Query).await?;
        let newest_seq = self.store.search(move |tx| tx.newest_app_request(id)).await?;
        let (filter, store) = (Arc::new(filter), &self.store);
        let start = Some(before.unwrap_or(i64::MAX).min(newest_seq.saturating_add(1)));
        let found = gather(limit, self.slots.budget(), start, |before, missing| {
            let filter = filter.clone();
            async move {
                let step = move |tx: &mut SearchTx<'_, '_>| {
                    tx.app_request_window(id, &filter, after..before.unwrap_or(0), missing)
                };
                let window = store.search(step).await?;
                Ok((window.requests, window.next))
            }
        })
        .await?;
        let searched_to = match found.stopped_at() {
            Some(seq) => self.store.search(move |tx| tx.app_request_time(id, seq)).await?,
            None => None,
        };
        Ok(found.into_page(searched_to, newest_seq, |(seq, _)| *seq))
    }

    /// Signs an assertion of the user's identity for one application; valid for [`ASSERTION_TTL`].
    ///
    /// # Errors
    /// `Invalid` when the audience is this gateway's own; when the signing keys cannot be read.
    pub async fn assert_identity(
        &self,
        caller: &Principal,
        audience: &str,
    ) -> Result<SecretString> {
        let signed_in = self.store.require_user(&RequestSource::local(""), caller).await?;
        let now = self.store.now();
        let assertion = Assertion {
            sub: signed_in.user.id,
            email: signed_in.user.email.clone(),
            name: signed_in.user.name.clone(),
            groups: vec![signed_in.user.role.as_str().to_owned()],
            iat: now.unix_seconds(),
            exp: now.after(ASSERTION_TTL).unix_seconds(),
            iss: ISSUER.to_owned(),
            aud: audience.to_owned(),
            jti: Uuid::new_v4().to_string(),
        };
        self.keys.get().await?.sign_assertion(&assertion).map(SecretString::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_longer_than_any_request_are_refused() {
        let path = |length| RequestQuery { path: Some("x".repeat(length)), ..Default::default() };
        let method =
            |length| RequestQuery { method: Some("X".repeat(length)), ..Default::default() };
        assert_eq!(filter(RequestQuery::default()).unwrap(), RequestFilter::default());
        for fits in [path(PATH_MAX), method(METHOD_MAX)] {
            assert!(filter(fits).is_ok());
        }
        for long in [path(PATH_MAX + 1), method(METHOD_MAX + 1)] {
            assert!(filter(long.clone()).is_err(), "{long:?}");
        }
    }
}
