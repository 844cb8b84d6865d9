//! Requests to a web application in a session (admins, security): pages, or a CSV file.

use super::csv::csv_cell;
use super::dto::request::{RequestFormat, RequestPage, RequestParams};
use super::error_body::Problem;
use super::responses::ok;
use crate::domain::SessionId;
use crate::domain::principal::Principal;
use crate::domain::user::RequestSource;
use crate::domain::web_app::RequestRecord;
use crate::http::client_presence::ClientPresence;
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Authenticated, PathId, QueryParams, RequestMeta};
use crate::http::state::AppState;
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;

/// Rows of a file in memory at once.
const CSV_PAGE_SIZE: u32 = 500;
const COLUMNS: &str = "seq,time,method,path,status,bytes_in,bytes_out,duration_ms,ended\r\n";

/// The requests of a session in a web application, newest first (admins, security).
///
/// As `csv`, everything that the filter selects, as a file.
#[utoipa::path(get, path = "/api/sessions/{id}/requests", tag = "sessions", operation_id = "listRequests",
    params(("id" = uuid::Uuid, Path, description = "Session"), RequestParams),
    responses((status = 200, content((RequestPage = "application/json"), (String = "text/csv"))), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 422, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn list(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
    QueryParams(params): QueryParams<RequestParams>,
    mut client: ClientPresence,
) -> ApiResult {
    let id = id.session()?;
    match params.format {
        RequestFormat::Json => {
            let search = state.broker.web_requests().list(&source, &caller, id, params);
            ok(RequestPage::from(client.serve(search).await?))
        }
        RequestFormat::Csv => csv_response(state, source, caller, id, params, client).await,
    }
}

async fn csv_response(
    state: web::Data<AppState>,
    source: RequestSource,
    caller: Principal,
    id: SessionId,
    params: RequestParams,
    client: ClientPresence,
) -> ApiResult {
    // Checks authorization and filter before the response starts; after the last one is nothing.
    let params = RequestParams { after: None, ..params };
    let probe =
        RequestParams { cursor: None, limit: Some(1), after: Some(i64::MAX), ..params.clone() };
    state.broker.web_requests().list(&source, &caller, id, probe).await?;
    let name = format!("attachment; filename=\"portcullis-requests-{id}.csv\"");
    // A failure aborts the transfer, so that an incomplete file is recognized.
    let rows = stream::try_unfold(Some((None::<String>, client)), move |at| {
        let (state, source, caller, params) =
            (state.clone(), source.clone(), caller.clone(), params.clone());
        async move {
            let Some((cursor, mut client)) = at else { return Ok::<_, ApiError>(None) };
            let mut text = if cursor.is_none() { COLUMNS.to_owned() } else { String::new() };
            let query = RequestParams { cursor, limit: Some(CSV_PAGE_SIZE), ..params };
            let search = state.broker.web_requests().list(&source, &caller, id, query);
            let page = client.serve(search).await?;
            for (seq, record) in &page.items {
                text.push_str(&csv_row(*seq, record));
            }
            let next = page.next_cursor.map(|cursor| (Some(cursor), client));
            Ok(Some((Bytes::from(text), next)))
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, name))
        .streaming(rows))
}

fn csv_row(seq: i64, r: &RequestRecord) -> String {
    let (method, path) = (csv_cell(&r.method), csv_cell(&r.path));
    let took = r.duration.as_millis();
    format!(
        "{seq},{},{method},{path},{},{},{},{took},{}\r\n",
        r.at,
        r.status,
        r.bytes_in,
        r.bytes_out,
        r.outcome.as_str()
    )
}
