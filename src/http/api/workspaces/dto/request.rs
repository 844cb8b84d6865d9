//! Requests to web applications, for admins and security.

use crate::broker::model::{RequestQuery, SearchPage};
use crate::domain::web_app::{RequestOutcome, RequestRecord, StatusClass, StatusFilter};
use crate::domain::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Outcome of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AppRequestEnd)]
pub enum AppRequestEnd {
    /// The response is complete.
    Done,
    /// The browser disconnected before the end.
    ClientGone,
    /// The application aborted its response.
    ApplicationGone,
    /// The session, or the authorization for it, ended.
    Cut,
    /// Refused by policy.
    Refused,
    /// The application sent no valid response.
    Failed,
}

impl From<RequestOutcome> for AppRequestEnd {
    fn from(end: RequestOutcome) -> Self {
        match end {
            RequestOutcome::Completed => Self::Done,
            RequestOutcome::ClientAborted => Self::ClientGone,
            RequestOutcome::UpstreamAborted => Self::ApplicationGone,
            RequestOutcome::Revoked => Self::Cut,
            RequestOutcome::Refused => Self::Refused,
            RequestOutcome::Failed => Self::Failed,
        }
    }
}

/// A request to a web application.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppRequest {
    /// Sequence number in the session, from 1.
    pub seq: i64,
    /// Start.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Method.
    pub method: String,
    /// Path, without its query; at most 512 bytes of it.
    pub path: String,
    /// Status sent to the browser; 0: none.
    pub status: u16,
    /// Bytes of the request body, or of WebSocket messages from the browser.
    pub bytes_in: u64,
    /// Bytes of the response body, or of WebSocket messages to the browser.
    pub bytes_out: u64,
    /// From its head to its end, milliseconds.
    pub duration_ms: u64,
    /// Outcome.
    pub ended: AppRequestEnd,
}

/// A page of requests, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestPage {
    /// The requests.
    pub requests: Vec<AppRequest>,
    /// Cursor of the next page; null: this is the last.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// The search took too long: requests before this time are not searched yet, `next_cursor` goes on
    /// with them. Otherwise null.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub searched_to: Option<Timestamp>,
    /// The newest request when the search began. With it as `after`, a later request finds what was
    /// added since.
    pub newest_seq: i64,
}

impl From<SearchPage<(i64, RequestRecord)>> for RequestPage {
    fn from(page: SearchPage<(i64, RequestRecord)>) -> Self {
        let one = |(seq, r): (i64, RequestRecord)| AppRequest {
            seq,
            time: r.at,
            method: r.method,
            path: r.path,
            status: r.status,
            bytes_in: r.bytes_in,
            bytes_out: r.bytes_out,
            duration_ms: u64::try_from(r.duration.as_millis()).unwrap_or(u64::MAX),
            ended: r.outcome.into(),
        };
        Self {
            requests: page.items.into_iter().map(one).collect(),
            next_cursor: page.next_cursor,
            searched_to: page.searched_to,
            newest_seq: page.newest_seq,
        }
    }
}

/// Format of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestFormat {
    /// A page.
    #[default]
    Json,
    /// A file of all that the filter selects; ignores `limit`, `cursor` and `after`.
    Csv,
}

/// Filter and page of a listing.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct RequestParams {
    /// A method.
    pub method: Option<String>,
    /// Text in the path.
    pub path: Option<String>,
    /// A status such as `404`, a class such as `4xx`, or `none`.
    pub status: Option<String>,
    /// `done`, `client_gone`, `application_gone`, `cut`, `refused` or `failed`.
    pub ended: Option<String>,
    /// 1 to 500; default 100.
    pub limit: Option<u32>,
    /// Cursor of the previous page.
    pub cursor: Option<String>,
    /// Only requests after this one (`newest_seq` of an earlier response).
    pub after: Option<i64>,
    /// `json` or `csv`.
    #[param(inline)]
    pub format: RequestFormat,
}

impl TryFrom<RequestParams> for RequestQuery {
    type Error = Error;
    fn try_from(p: RequestParams) -> Result<Self> {
        // Forms send empty fields.
        let entered = |text: Option<String>| text.filter(|text| !text.is_empty());
        let trimmed = |text: Option<String>| entered(text.map(|text| text.trim().to_owned()));
        let status = entered(p.status).map(|text| {
            parse_status(&text).ok_or_else(|| {
                Error::invalid("status must be a number such as 404, a class such as 4xx, or none.")
            })
        });
        let outcome = entered(p.ended).map(|word| {
            let words = RequestOutcome::ALL.map(RequestOutcome::as_str).join(", ");
            RequestOutcome::parse(&word)
                .ok_or_else(|| Error::invalid(format!("ended must be one of: {words}.")))
        });
        Ok(Self {
            method: trimmed(p.method).map(|method| method.to_ascii_uppercase()),
            path: trimmed(p.path),
            status: status.transpose()?,
            outcome: outcome.transpose()?,
            cursor: p.cursor,
            limit: p.limit,
            after: p.after,
        })
    }
}

/// A status such as `404`, a class such as `4xx`, or `none`.
fn parse_status(word: &str) -> Option<StatusFilter> {
    match word {
        "none" => Some(StatusFilter::None),
        "1xx" => Some(StatusFilter::Class(StatusClass::Informational)),
        "2xx" => Some(StatusFilter::Class(StatusClass::Successful)),
        "3xx" => Some(StatusFilter::Class(StatusClass::Redirection)),
        "4xx" => Some(StatusFilter::Class(StatusClass::ClientError)),
        "5xx" => Some(StatusFilter::Class(StatusClass::ServerError)),
        code if code.len() == 3 && code.bytes().all(|digit| digit.is_ascii_digit()) => {
            code.parse().ok().filter(|code| *code >= 100).map(StatusFilter::Code)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ErrorKind;

    fn query(params: RequestParams) -> Result<RequestQuery> {
        params.try_into()
    }

    #[test]
    fn statuses_are_parsed() {
        for (word, range) in [
            ("404", Some((404, 404))),
            ("100", Some((100, 100))),
            ("999", Some((999, 999))),
            ("1xx", Some((100, 199))),
            ("2xx", Some((200, 299))),
            ("3xx", Some((300, 399))),
            ("4xx", Some((400, 499))),
            ("5xx", Some((500, 599))),
            ("none", Some((0, 0))),
            ("6xx", None),
            ("0xx", None),
            ("40", None),
            ("099", None),
            ("+40", None),
            ("4xy", None),
            ("4XX", None),
            ("1000", None),
            (" 404", None),
        ] {
            assert_eq!(parse_status(word).map(StatusFilter::range), range, "{word}");
        }
    }

    #[test]
    fn filters_are_parsed() {
        let text = |text: &str| Some(text.to_owned());
        let empty = RequestParams {
            method: text(" "),
            path: text(""),
            status: text(""),
            ended: text(""),
            ..RequestParams::default()
        };
        let nothing = format!("{:?}", RequestQuery::default());
        assert_eq!(format!("{:?}", query(empty).unwrap()), nothing);
        let some = query(RequestParams {
            method: text(" get"),
            path: text(" /a "),
            status: text("404"),
            ended: text("cut"),
            ..RequestParams::default()
        });
        let some = some.unwrap();
        assert_eq!((some.method.as_deref(), some.path.as_deref()), (Some("GET"), Some("/a")));
        assert_eq!(some.status, Some(StatusFilter::Code(404)));
        assert_eq!(some.outcome, Some(RequestOutcome::Revoked));
        for (bad, message) in [
            (
                RequestParams { status: text("x"), ..RequestParams::default() },
                "status must be a number such as 404, a class such as 4xx, or none.",
            ),
            (
                RequestParams { ended: text("x"), ..RequestParams::default() },
                "ended must be one of: done, client_gone, application_gone, cut, refused, failed.",
            ),
        ] {
            let error = query(bad).unwrap_err();
            assert_eq!((error.kind, &*error.message), (ErrorKind::Invalid, message));
        }
    }
}
