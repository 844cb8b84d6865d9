//! The audit log: list, export, verify (admins, security).

use super::csv::csv_cell;
use super::dto::audit::{AuditPage, AuditVerification};
use super::dto::audit_query::{AuditParams, ExportFormat, ExportParams};
use super::error_body::Problem;
use super::responses::ok;
use crate::broker::audit::AuditExport;
use crate::domain::audit::{Entry, ExportedEntry};
use crate::http::client_presence::ClientPresence;
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Authenticated, QueryParams, RequestMeta};
use crate::http::state::AppState;
use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::stream;

/// Entries, newest first.
///
/// A search takes a limited time. One that has not come to the beginning of the log by then returns
/// what it has found, with `searched_to`: request the next page to go on.
#[utoipa::path(get, path = "/api/audit", tag = "audit", operation_id = "listAudit", params(AuditParams),
    responses((status = 200, body = AuditPage), (status = 401, body = Problem), (status = 403, body = Problem), (status = 422, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn list(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    QueryParams(params): QueryParams<AuditParams>,
    mut client: ClientPresence,
) -> ApiResult {
    let page = client.serve(state.broker.audit().query(&source, &caller, params)).await?;
    ok(AuditPage::from(page))
}

/// Downloads the log, oldest first; with filters, the entries of the listing, newest first.
///
/// The whole log as `jsonl` has one entry per line as it was hashed, and ends with
/// `{"head":{"seq","hash","signature"},"public_key"}`: a file without that line is incomplete.
/// Entries of other organizations, and of none, are withheld: only their `seq`, `prev_hash` and
/// `hash` are in it, which the chain needs.
#[utoipa::path(get, path = "/api/audit/export", tag = "audit", operation_id = "exportAudit", params(ExportParams),
    responses((status = 200, content((String = "application/x-ndjson"), (String = "text/csv"))), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn export(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    QueryParams(params): QueryParams<ExportParams>,
    client: ClientPresence,
) -> ApiResult {
    let format = params.format;
    let (reader, is_whole) = match params.into_filter() {
        None => (state.broker.audit().export(&source, &caller).await?, true),
        Some(query) => (state.broker.audit().export_query(&source, &caller, query).await?, false),
    };
    let (kind, name) = match format {
        ExportFormat::Jsonl => ("application/x-ndjson", "portcullis-audit.jsonl"),
        ExportFormat::Csv => ("text/csv; charset=utf-8", "portcullis-audit.csv"),
    };
    let last_line = is_whole.then(|| serde_json::json!({ "head": reader.head, "public_key": state.settings.audit_public_key }).to_string());
    Ok(HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")))
        .streaming(export_body(reader, client, format, last_line)))
}

/// Reads the whole log and checks every hash, every link and the signed head.
#[utoipa::path(get, path = "/api/audit/verify", tag = "audit", operation_id = "verifyAudit",
    responses((status = 200, body = AuditVerification), (status = 401, body = Problem), (status = 403, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn verify(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    mut client: ClientPresence,
) -> ApiResult {
    let verdict = client.serve(state.broker.audit().verify(&source, &caller)).await?;
    ok(AuditVerification::from(verdict))
}

struct Download {
    reader: AuditExport,
    client: ClientPresence,
    is_started: bool,
}

/// The export, one page in memory at a time. A failure aborts the transfer, so that an incomplete
/// file is recognized.
fn export_body(
    reader: AuditExport,
    client: ClientPresence,
    format: ExportFormat,
    last_line: Option<String>,
) -> impl stream::Stream<Item = Result<Bytes, ApiError>> {
    let start = Download { reader, client, is_started: false };
    stream::try_unfold(Some(start), move |download| {
        let last_line = last_line.clone();
        async move {
            let Some(mut download) = download else { return Ok(None) };
            let mut text = match format {
                ExportFormat::Csv if !download.is_started => format!("{}\r\n", COLUMNS.join(",")),
                ExportFormat::Csv | ExportFormat::Jsonl => String::new(),
            };
            download.is_started = true;
            let entries = download.client.serve(download.reader.next()).await?;
            for entry in &entries {
                match format {
                    ExportFormat::Jsonl => {
                        text.push_str(
                            &serde_json::to_string(entry)
                                .map_err(|e| ApiError::from(crate::domain::Error::internal(e)))?,
                        );
                        text.push('\n');
                    }
                    ExportFormat::Csv => {
                        if let ExportedEntry::Entry(entry) = entry {
                            text.push_str(&csv_row(entry));
                        }
                    }
                }
            }
            if !entries.is_empty() {
                return Ok(Some((Bytes::from(text), Some(download))));
            }
            if let (ExportFormat::Jsonl, Some(last_line)) = (format, &last_line) {
                text.push_str(last_line);
                text.push('\n');
            }
            Ok(Some((Bytes::from(text), None)))
        }
    })
}

const COLUMNS: [&str; 19] = [
    "seq",
    "time",
    "actor_id",
    "actor_email",
    "actor_role",
    "action",
    "target_type",
    "target_id",
    "target_name",
    "outcome",
    "reason",
    "source_ip",
    "user_agent",
    "session_id",
    "workspace_id",
    "request_id",
    "details",
    "prev_hash",
    "hash",
];

fn csv_row(e: &Entry) -> String {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let details = serde_json::Value::Object(e.details.clone()).to_string();
    let cells: [String; 19] = [
        e.seq.to_string(),
        e.time.to_string(),
        text(&e.actor.id),
        text(&e.actor.email),
        text(&e.actor.role),
        e.action.clone(),
        text(&e.target.kind),
        text(&e.target.id),
        text(&e.target.name),
        e.outcome.as_str().to_owned(),
        text(&e.reason),
        text(&e.source_ip),
        text(&e.user_agent),
        text(&e.session_id),
        text(&e.workspace_id),
        text(&e.request_id),
        details,
        e.prev_hash.clone(),
        e.hash.clone(),
    ];
    let mut line = cells.map(|c| csv_cell(&c)).join(",");
    line.push_str("\r\n");
    line
}
