//! Requests to web applications, for admins and security.

use crate::broker::model::Page;
use crate::broker::model::RequestQuery;
use crate::domain::Timestamp;
use crate::domain::web_app::{RequestOutcome, RequestRecord};
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
}

impl From<Page<(i64, RequestRecord)>> for RequestPage {
    fn from(page: Page<(i64, RequestRecord)>) -> Self {
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
        Self { requests: page.items.into_iter().map(one).collect(), next_cursor: page.next_cursor }
    }
}

/// Format of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestFormat {
    /// A page.
    #[default]
    Json,
    /// A file of all that the filter selects; ignores `limit` and `cursor`.
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
    /// `json` or `csv`.
    #[param(inline)]
    pub format: RequestFormat,
}

impl RequestParams {
    /// As the broker takes it.
    #[must_use]
    pub fn query(&self) -> RequestQuery<'_> {
        RequestQuery {
            method: self.method.as_deref(),
            path: self.path.as_deref(),
            status: self.status.as_deref(),
            ended: self.ended.as_deref(),
            cursor: self.cursor.as_deref(),
            limit: self.limit,
        }
    }
}
