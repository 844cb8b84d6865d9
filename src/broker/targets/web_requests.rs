//! Request log of web applications, and identity assertions.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`RequestRecord`] | one request; written in batches to its own table, because there are many |
//! | [`RefusedRequest`] | requests that policy forbids: an audit entry, rate-limited by the caller |
//! | assertion | a JWT, valid for a minute, that tells one application who its user is |

use crate::auth::token::{Assertion, ISSUER};
use crate::broker::core::answers::SESSION;
use crate::broker::core::signing_keys::SigningKeys;
use crate::broker::core::unit_of_work::AuditedStore;
use crate::broker::core::validate;
use crate::broker::model::{Page, RequestQuery};
use crate::domain::audit::{Action, Reason};
use crate::domain::policy::PolicyAction;
use crate::domain::principal::Principal;
use crate::domain::secret::SecretString;
use crate::domain::user::RequestSource;
use crate::domain::web_app::{RequestOutcome, RequestRecord};
use crate::domain::{Error, Result, SessionId};
use crate::store::RequestFilter;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

pub const ASSERTION_TTL: Duration = Duration::from_secs(60);
/// Maximum length of a path in the audit log, in bytes.
const PATH_MAX: usize = 512;
/// Maximum length of a method, in bytes.
const METHOD_MAX: usize = 32;

impl RequestQuery<'_> {
    fn filter(&self) -> Result<RequestFilter> {
        let given = |text: Option<&str>, most: usize, what: &str| match text
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            Some(text) if text.len() > most => {
                Err(Error::invalid(format!("{what} must be at most {most} bytes.")))
            }
            text => Ok(text.map(str::to_owned)),
        };
        let status = self.status.filter(|text| !text.is_empty()).map(|text| {
            status_range(text).ok_or_else(|| {
                Error::invalid("status must be a number such as 404, a class such as 4xx, or none.")
            })
        });
        let ended = self.ended.filter(|text| !text.is_empty()).map(|word| {
            let words = RequestOutcome::ALL.map(RequestOutcome::as_str).join(", ");
            RequestOutcome::parse(word)
                .ok_or_else(|| Error::invalid(format!("ended must be one of: {words}.")))
        });
        Ok(RequestFilter {
            method: given(self.method, METHOD_MAX, "method")?
                .map(|method| method.to_ascii_uppercase()),
            path: given(self.path, PATH_MAX, "path")?,
            status: status.transpose()?,
            outcome: ended.transpose()?,
        })
    }
}

/// First and last status code of a range.
fn status_range(word: &str) -> Option<(u16, u16)> {
    match word.as_bytes() {
        b"none" => Some((0, 0)),
        [class @ b'1'..=b'5', b'x', b'x'] => {
            let first = u16::from(class - b'0') * 100;
            Some((first, first + 99))
        }
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => word.parse().ok().map(|status| (status, status)),
        _ => None,
    }
}

#[derive(Clone)]
pub struct WebRequests {
    pub(in crate::broker) store: AuditedStore,
    pub(in crate::broker) keys: SigningKeys,
}

impl WebRequests {
    /// Stores requests of a session in order: all of them or none.
    ///
    /// # Errors
    /// When the store cannot write them.
    pub async fn store(&self, session: SessionId, records: Arc<Vec<RequestRecord>>) -> Result<()> {
        self.store.write_unaudited(move |tx| tx.add_app_requests(session, &records)).await
    }

    /// A page of a session's requests, newest first, each with its sequence number.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`; `Invalid` when limit or cursor are not acceptable.
    pub async fn list(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: SessionId,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<(i64, RequestRecord)>> {
        self.find(origin, caller, id, RequestQuery { cursor, limit, ..RequestQuery::default() })
            .await
    }

    /// A page of the requests that a query selects.
    ///
    /// # Errors
    /// As there; `Invalid` when the query does not read.
    pub async fn find(
        &self,
        origin: &RequestSource,
        caller: &Principal,
        id: SessionId,
        query: RequestQuery<'_>,
    ) -> Result<Page<(i64, RequestRecord)>> {
        let organization =
            self.store.permit(origin, caller, PolicyAction::ReadAudit).await?.organization_id();
        let limit = validate::page_limit(query.limit, 100)?;
        let filter = query.filter()?;
        let before = query
            .cursor
            .map(|c| {
                c.parse().map_err(|_| Error::invalid("cursor must be one that a former page gave."))
            })
            .transpose()?;
        let found = self
            .store
            .read(move |tx| {
                let theirs =
                    tx.session(id)?.is_some_and(|session| session.organization_id == organization);
                if theirs {
                    tx.find_app_requests(id, &filter, before, limit + 1).map(Some)
                } else {
                    Ok(None)
                }
            })
            .await?;
        match found {
            Some(rows) => Ok(validate::page(rows, limit, |(seq, _)| seq.to_string())),
            None => {
                let note = self
                    .store
                    .entry(origin, Action::AccessDenied)
                    .by_caller(caller)
                    .on_session_id(id);
                self.store.write_entry(note.denied(Reason::Unknown)).await?;
                Err(Error::not_found(SESSION))
            }
        }
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
    fn queries_are_parsed() {
        for (word, range) in [
            ("404", Some((404, 404))),
            ("5xx", Some((500, 599))),
            ("none", Some((0, 0))),
            ("6xx", None),
            ("40", None),
            ("+40", None),
            ("4xy", None),
        ] {
            assert_eq!(status_range(word), range, "{word}");
        }
        let all = RequestQuery {
            method: Some(" "),
            path: Some(""),
            status: Some(""),
            ended: Some(""),
            ..RequestQuery::default()
        };
        assert_eq!(all.filter().unwrap(), RequestFilter::default());
        let some =
            RequestQuery { method: Some("get"), ended: Some("cut"), ..RequestQuery::default() };
        assert_eq!(
            some.filter().unwrap(),
            RequestFilter {
                method: Some("GET".into()),
                outcome: Some(RequestOutcome::Revoked),
                ..RequestFilter::default()
            }
        );
        for bad in [
            RequestQuery { path: Some(&"x".repeat(513)), ..RequestQuery::default() },
            RequestQuery { status: Some("x"), ..RequestQuery::default() },
            RequestQuery { ended: Some("x"), ..RequestQuery::default() },
        ] {
            assert!(bad.filter().is_err(), "{bad:?}");
        }
    }
}
