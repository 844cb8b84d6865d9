//! Sessions: the caller's own, and every session for admins.

use super::dto::Message;
use super::dto::extension::{ExtendSession, ExtendedSession};
use super::dto::session::{Session, SessionParams, Ticket};
use super::dto::upstream::CredentialInput;
use super::error_body::Problem;
use super::responses::{message, no_content, ok};
use crate::broker::model::{Page, PageQuery, SessionQuery, SessionView};
use crate::domain::Error;
use crate::domain::principal::Principal;
use crate::domain::session::SessionFilter;
use crate::domain::user::RequestSource;
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Authenticated, JsonBody, PathId, QueryParams, RequestMeta};
use crate::http::state::AppState;
use actix_web::http::header::{self, ContentType};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::stream::{self, Stream};
use std::fmt::Write as _;
use std::iter;

/// Longest page of sessions.
const PAGE_MAX: u32 = 500;

/// The caller's sessions, newest first. A `Link` header with `rel="next"` leads to the next page.
#[utoipa::path(get, path = "/api/sessions", tag = "sessions", operation_id = "listSessions", params(SessionParams),
    responses((status = 200, body = Vec<Session>, headers(("Link" = String, description = "The next page, `rel=\"next\"`"))), (status = 401, body = Problem),
        (status = 422, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn list(
    state: web::Data<AppState>,
    Authenticated(caller): Authenticated,
    QueryParams(params): QueryParams<SessionParams>,
) -> ApiResult {
    let query = SessionQuery {
        limit: params.limit,
        cursor: params.cursor.clone(),
        filter: params.filter()?,
    };
    let page = state.broker.sessions().list(&caller, query).await?;
    let mut answer = HttpResponse::Ok();
    if let Some(cursor) = page.next_cursor {
        answer.insert_header((header::LINK, next_page(&params, &cursor)));
    }
    Ok(answer.json(sessions(&state, page.items)))
}

/// The caller's active sessions.
#[utoipa::path(get, path = "/api/sessions/active", tag = "sessions", operation_id = "listActiveSessions",
    responses((status = 200, body = Vec<Session>), (status = 401, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn active(state: web::Data<AppState>, Authenticated(caller): Authenticated) -> ApiResult {
    let query = SessionQuery { limit: Some(PAGE_MAX), cursor: None, filter: SessionFilter::Active };
    let page = state.broker.sessions().list(&caller, query).await?;
    ok(sessions(&state, page.items))
}

/// One of the caller's sessions.
#[utoipa::path(get, path = "/api/sessions/{id}", tag = "sessions", operation_id = "getSession", params(("id" = uuid::Uuid, Path, description = "Session")),
    responses((status = 200, body = Session), (status = 401, body = Problem), (status = 404, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn get(
    state: web::Data<AppState>,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    let view = state.broker.sessions().get(&caller, id.session()?).await?;
    ok(Session::new(view, state.settings.apps.as_ref()))
}

/// Ends one of the caller's sessions: its streams, its tunnel and its desktop end at once. To leave it
/// running, just close its streams.
#[utoipa::path(post, path = "/api/sessions/{id}/disconnect", tag = "sessions", operation_id = "disconnectSession", params(("id" = uuid::Uuid, Path, description = "Session")),
    responses((status = 200, body = Message), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It already ended", body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn disconnect(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    state.broker.sessions().disconnect(&source, &caller, id.session()?).await?;
    message("Session disconnected")
}

/// Extends one of the caller's active sessions: it ends later, and its streams go on. How far is said
/// by its workspace and the installation: `extendable_until` of the session.
#[utoipa::path(post, path = "/api/sessions/{id}/extend", tag = "sessions", operation_id = "extendSession", params(("id" = uuid::Uuid, Path, description = "Session")),
    request_body = ExtendSession,
    responses((status = 200, body = ExtendedSession), (status = 401, body = Problem),
        (status = 403, description = "The caller's role may not launch its workspace any more", body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It is not active, or would last longer than it may", body = Problem), (status = 422, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn extend(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
    JsonBody(body): JsonBody<ExtendSession>,
) -> ApiResult {
    let by = body.duration()?;
    let view = state.broker.sessions().extend(&source, &caller, id.session()?, by).await?;
    ok(ExtendedSession::new(Session::new(view, state.settings.apps.as_ref()), by))
}

/// Creates a ticket for the session's stream: one use, 30 s.
#[utoipa::path(post, path = "/api/sessions/{id}/ticket", tag = "sessions", operation_id = "issueTicket", params(("id" = uuid::Uuid, Path, description = "Session")),
    responses((status = 200, body = Ticket), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It already ended", body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn ticket(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    let id = id.session()?;
    let ticket = state.broker.streams().issue_ticket(&source, &caller, id).await?;
    ok(Ticket::new(&ticket, id))
}

/// Enters the credential that the session's server requires: kept in memory for two minutes, used
/// once, by the next stream of this login.
#[utoipa::path(post, path = "/api/sessions/{id}/credential", tag = "sessions", operation_id = "enterCredential", params(("id" = uuid::Uuid, Path, description = "Session")),
    request_body = CredentialInput,
    responses((status = 204, description = "Kept for the next stream"), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "The session ended, or its workspace asks for none", body = Problem), (status = 422, body = Problem),
        (status = 503, description = "Too many are kept", body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn enter_credential(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
    JsonBody(body): JsonBody<CredentialInput>,
) -> ApiResult {
    state.broker.credentials().enter(&source, &caller, id.session()?, body.into()).await?;
    no_content()
}

/// Every live session of the organization (admins, security).
#[utoipa::path(get, path = "/api/admin/sessions", tag = "admin", operation_id = "listAllSessions",
    responses((status = 200, body = Vec<Session>), (status = 401, body = Problem), (status = 403, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn all_live(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
) -> ApiResult {
    let first = live_page(&state, &source, &caller, None).await?;
    if first.next_cursor.is_none() {
        return ok(sessions(&state, first.items));
    }
    Ok(HttpResponse::Ok()
        .content_type(ContentType::json())
        .streaming(live_list(state, source, caller, first)))
}

async fn live_page(
    state: &AppState,
    source: &RequestSource,
    caller: &Principal,
    cursor: Option<String>,
) -> ApiResult<Page<SessionView>> {
    let query = PageQuery { cursor, limit: Some(PAGE_MAX) };
    Ok(state.broker.sessions().list_live(source, caller, query).await?)
}

/// The list as one JSON array, a page in memory at a time. A failure aborts the transfer, so that an
/// incomplete list is recognized.
fn live_list(
    state: web::Data<AppState>,
    source: RequestSource,
    caller: Principal,
    first: Page<SessionView>,
) -> impl Stream<Item = Result<Bytes, ApiError>> {
    stream::try_unfold((Some(first), '['), move |(page, before)| {
        let (state, source, caller) = (state.clone(), source.clone(), caller.clone());
        async move {
            let Some(Page { items, next_cursor }) = page else { return Ok(None) };
            let mut text = String::new();
            // A page with a cursor to the next has sessions; the next may have none by now.
            for (session, mark) in
                sessions(&state, items).iter().zip(iter::once(before).chain(iter::repeat(',')))
            {
                text.push(mark);
                text.push_str(&serde_json::to_string(session).map_err(Error::internal)?);
            }
            let next = match next_cursor {
                Some(cursor) => Some(live_page(&state, &source, &caller, Some(cursor)).await?),
                None => None,
            };
            if next.is_none() {
                text.push(']');
            }
            Ok(Some((Bytes::from(text), (next, ','))))
        }
    })
}

/// Ends any session (admins).
#[utoipa::path(post, path = "/api/admin/sessions/{id}/terminate", tag = "admin", operation_id = "terminateSession", params(("id" = uuid::Uuid, Path, description = "Session")),
    responses((status = 200, body = Message), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn terminate(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    state.broker.sessions().terminate(&source, &caller, id.session()?).await?;
    message("Session terminated")
}

fn sessions(state: &AppState, views: Vec<SessionView>) -> Vec<Session> {
    views.into_iter().map(|view| Session::new(view, state.settings.apps.as_ref())).collect()
}

/// RFC 8288: the same listing from `cursor` on. Valid statuses need no escaping.
fn next_page(params: &SessionParams, cursor: &str) -> String {
    let plain =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b));
    let mut target = String::from("/api/sessions?");
    if let Some(limit) = params.limit {
        let _ = write!(target, "limit={limit}&");
    }
    if let Some(status) = params.status.as_deref().filter(|s| plain(s)) {
        let _ = write!(target, "status={status}&");
    }
    let escaped: String = cursor
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    format!("<{target}cursor={escaped}>; rel=\"next\"")
}
