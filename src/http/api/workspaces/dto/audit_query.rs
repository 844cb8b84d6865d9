//! Queries of the audit log, and their words.

use crate::broker::model::AuditQuery;
use crate::domain::audit::{Action, ActorFilter, Outcome};
use crate::domain::{Error, Result, Timestamp};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Filter and page of a listing.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditParams {
    /// User id or e-mail address.
    actor: Option<String>,
    /// Action.
    action: Option<String>,
    /// Workspace.
    workspace_id: Option<String>,
    /// Session.
    session_id: Option<String>,
    /// `success`, `denied`, `error`.
    outcome: Option<String>,
    /// RFC 3339, inclusive.
    from: Option<String>,
    /// RFC 3339, exclusive.
    to: Option<String>,
    /// Text in actor, target, reason or source address.
    q: Option<String>,
    /// 1 to 500; default 50.
    limit: Option<u32>,
    /// Cursor of the previous page.
    cursor: Option<String>,
    /// Only entries after this one (`newest_seq` of an earlier response).
    after: Option<i64>,
}

/// What was entered; forms send empty fields.
fn entered(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn trimmed(text: Option<String>) -> Option<String> {
    entered(text.map(|text| text.trim().to_owned()))
}

fn time(what: &str, text: Option<String>) -> Result<Option<Timestamp>> {
    entered(text)
        .map(|text| Timestamp::parse(&text))
        .transpose()
        .map_err(|_| Error::invalid(format!("{what} must be a time such as 2026-03-05T14:30:00Z.")))
}

impl TryFrom<AuditParams> for AuditQuery {
    type Error = Error;
    fn try_from(p: AuditParams) -> Result<Self> {
        let actor = |text: String| match Uuid::parse_str(&text) {
            Ok(id) => ActorFilter::Id(id),
            Err(_) => ActorFilter::Email(text),
        };
        let action = |text: String| {
            Action::parse(&text)
                .ok_or_else(|| Error::invalid("action must be one of the log's action names."))
        };
        let outcome = |text: String| {
            Outcome::parse(&text)
                .ok_or_else(|| Error::invalid("outcome must be success, denied or error."))
        };
        Ok(Self {
            actor: trimmed(p.actor).map(actor),
            action: trimmed(p.action).map(action).transpose()?,
            workspace_id: trimmed(p.workspace_id),
            session_id: trimmed(p.session_id),
            outcome: trimmed(p.outcome).map(outcome).transpose()?,
            from: time("from", p.from)?,
            to: time("to", p.to)?,
            q: trimmed(p.q),
            limit: p.limit,
            cursor: entered(p.cursor),
            after: p.after,
        })
    }
}

/// Format of an export.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// One JSON object per line; the last line is the signed head.
    #[default]
    Jsonl,
    /// A table for spreadsheets; it cannot be verified.
    Csv,
}

/// Format and filter of an export.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportParams {
    /// Format; default `jsonl`.
    #[serde(default)]
    #[param(inline)]
    pub format: ExportFormat,
    /// User id or e-mail address.
    actor: Option<String>,
    /// Action.
    action: Option<String>,
    /// Workspace.
    workspace_id: Option<String>,
    /// Session.
    session_id: Option<String>,
    /// `success`, `denied`, `error`.
    outcome: Option<String>,
    /// RFC 3339, inclusive.
    from: Option<String>,
    /// RFC 3339, exclusive.
    to: Option<String>,
    /// Text in actor, target, reason or source address.
    q: Option<String>,
}

impl ExportParams {
    /// The filter; `None` for the whole log.
    pub fn into_filter(self) -> Option<AuditParams> {
        let Self { format: _, actor, action, workspace_id, session_id, outcome, from, to, q } =
            self;
        let is_filtered = [&actor, &action, &workspace_id, &session_id, &outcome, &from, &to, &q]
            .into_iter()
            .flatten()
            .any(|text| !text.is_empty());
        is_filtered.then_some(AuditParams {
            actor,
            action,
            workspace_id,
            session_id,
            outcome,
            from,
            to,
            q,
            limit: None,
            cursor: None,
            after: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ErrorKind;
    use actix_web::web::Query;

    fn query(text: &str) -> Result<AuditQuery> {
        Query::<AuditParams>::from_query(text).unwrap().into_inner().try_into()
    }

    #[test]
    fn filters_are_parsed() {
        let of = |text: &str| query(text).unwrap();
        let id = Uuid::from_u128(10);
        for text in [id.hyphenated().to_string(), id.simple().to_string().to_uppercase()] {
            assert_eq!(of(&format!("actor={text}")).actor, Some(ActorFilter::Id(id)));
        }
        let ann = Some(ActorFilter::Email("ANN@example.com".to_owned()));
        assert_eq!(of("actor=+ANN@example.com+").actor, ann);
        let all = of("action=login_failed&outcome=+denied&q=+a+b+");
        assert_eq!((all.action, all.outcome), (Some(Action::LoginFailed), Some(Outcome::Denied)));
        assert_eq!(all.q.as_deref(), Some("a b"));
        let times = of("from=2026-03-05T15:30:00%2B01:00&to=2026-03-05T14:30:00.007Z");
        let at = |ms: i64| Some(Timestamp(1_772_721_000_000 + ms));
        assert_eq!((times.from, times.to), (at(0), at(7)));
        let empty = of("actor=&action=+&outcome=&from=&to=&q=+&workspace_id=&session_id=&cursor=");
        assert_eq!(format!("{empty:?}"), format!("{:?}", AuditQuery::default()));
    }

    #[test]
    fn other_words_are_refused() {
        for (text, message) in [
            ("action=nonsense", "action must be one of the log's action names."),
            ("action=Login", "action must be one of the log's action names."),
            ("outcome=maybe", "outcome must be success, denied or error."),
            ("from=yesterday", "from must be a time such as 2026-03-05T14:30:00Z."),
            ("to=+", "to must be a time such as 2026-03-05T14:30:00Z."),
        ] {
            let error = query(text).unwrap_err();
            assert_eq!((error.kind, &*error.message), (ErrorKind::Invalid, message), "{text}");
        }
    }

    #[test]
    fn an_export_without_filter_is_of_the_whole_log() {
        let of = |text: &str| {
            let params = Query::<ExportParams>::from_query(text).unwrap();
            params.into_inner().into_filter().is_some()
        };
        assert!(!of("") && !of("format=csv&actor=&q="));
        assert!(of("q=x") && of("to=nonsense"));
    }
}
