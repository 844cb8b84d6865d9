//! Requests to web applications, as admins read them.

use crate::broker::model::Page;
use crate::broker::model::RequestQuery;
use crate::domain::Timestamp;
use crate::domain::web_app::{RequestOutcome, RequestRecord};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AppRequestEnd)]
pub enum AppRequestEnd {
    /// Answered to the end.
    Done,
    /// The browser went before the end.
    ClientGone,
    /// The application broke off its answer.
    ApplicationGone,
    /// The session, or the right to it, ended.
    Cut,
    /// Policy does not allow it.
    Refused,
    /// The application gave no answer that could be passed on.
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
    /// Its place in the session, from 1.
    pub seq: i64,
    /// When it came.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Method.
    pub method: String,
    /// Path, without its query; at most 512 bytes of it.
    pub path: String,
    /// What the browser was answered; 0: nothing.
    pub status: u16,
    /// Bytes of its body, or from the browser in a WebSocket's messages.
    pub bytes_in: u64,
    /// Bytes of the answer's body, or to the browser in a WebSocket's messages.
    pub bytes_out: u64,
    /// From its head to its end, in milliseconds.
    pub duration_ms: u64,
    /// How it ended.
    pub ended: AppRequestEnd,
}

/// A page of requests, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestPage {
    /// The requests.
    pub requests: Vec<AppRequest>,
    /// Where the next page starts; null: this is the last.
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

/// What the requests come as.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestFormat {
    /// A page.
    #[default]
    Json,
    /// A file of all that the filter shows; `limit` and `cursor` say nothing then.
    Csv,
}

/// Which requests to list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct RequestParams {
    /// A method.
    pub method: Option<String>,
    /// Words anywhere in the path.
    pub path: Option<String>,
    /// A status such as `404`, a class such as `4xx`, or `none`.
    pub status: Option<String>,
    /// `done`, `client_gone`, `application_gone`, `cut`, `refused` or `failed`.
    pub ended: Option<String>,
    /// 1 to 500; default 100.
    pub limit: Option<u32>,
    /// From the page before.
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
