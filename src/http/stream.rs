//! The WebSocket of a session, up to the moment the viewer takes over: who asks, from which page, with what proof.
//!
//! A ticket is in the query, because a browser cannot add headers to a WebSocket; it works once, for 30 s, for one session, and no log line holds a
//! query. The relay itself, text frames and giant frames included, is the viewer's.

use super::AppState;
use super::error::{ApiError, ApiResult, Problem};
use super::extract::{Params, PathId, RequestOrigin};
use super::guard::{by_cookie, caller_of, deny, has_proof};
use super::origin::{BrowserOrigin, browser_origin};
use crate::broker::live::StreamGrant;
use crate::broker::views::StreamProof;
use crate::domain::secret::SecretString;
use crate::domain::user::Origin;
use crate::viewer;
use crate::viewer::hangup::Hangup;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use std::sync::Arc;
use tracing::Instrument as _;
use utoipa::IntoParams;

/// Query of the stream.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// One-use ticket; without one, a bearer token or the cookie must say who asks.
    #[param(value_type = Option<String>)]
    ticket: Option<SecretString>,
}

/// The session's stream: a WebSocket of binary messages.
///
/// For `linux` and `vnc` workspaces it speaks RFB 3.8 with security type None. Close codes: 4000 the session ended (the reason is its `end_reason`),
/// 4001 signed out, 4002 the desktop cannot be reached, 4003 too many viewers, 1003 a text frame, 1009 a frame too big, 1001 the gateway goes away.
#[utoipa::path(get, path = "/api/sessions/{id}/stream", tag = "sessions", operation_id = "openStream",
    params(("id" = uuid::Uuid, Path, description = "Session"), StreamQuery),
    responses(
        (status = 101, description = "The stream is open"),
        (status = 401, description = "No proof, or a ticket that is used, expired or unknown", body = Problem),
        (status = 403, description = "The page is not of this gateway", body = Problem),
        (status = 404, description = "No such session of the caller", body = Problem),
        (status = 409, description = "The session is not active", body = Problem),
        (status = 426, description = "Not a WebSocket request", body = Problem)),
    security((), ("bearer" = []), ("cookie" = [])))]
pub async fn open(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<AppState>,
    RequestOrigin(origin): RequestOrigin,
    Params(query): Params<StreamQuery>,
    id: PathId,
) -> ApiResult {
    if !asks_for_websocket(&req) {
        return Ok(upgrade_required());
    }
    let page = browser_origin(&req, &state.settings.public_origins);
    // A cookie proves a browser, and browsers always say which page asks.
    let needs_origin = query.ticket.is_none() && by_cookie(&req);
    if page == BrowserOrigin::Foreign || (needs_origin && page == BrowserOrigin::Absent) {
        return deny(&req, None, "foreign_origin").await;
    }
    let grant = match query.ticket {
        Some(ticket) => {
            let id = id.session()?;
            state.broker.open_stream(&origin, id, StreamProof::Ticket(&ticket)).await?
        }
        None if has_proof(&req) => {
            let caller = caller_of(&req).await?;
            state.broker.open_stream(&origin, id.session()?, StreamProof::Caller(&caller)).await?
        }
        None => return Err(ApiError::not_signed_in()),
    };
    let (answer, session, messages) = match actix_ws::handle(&req, payload) {
        Ok(parts) => parts,
        Err(_) => {
            state.broker.close_stream(&origin, grant, "bad_handshake").await?;
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "The WebSocket handshake is not valid"));
        }
    };
    let hangup = req.conn_data::<Hangup>().cloned();
    actix_web::rt::spawn(attend(state, origin, grant, (session, messages), hangup).in_current_span());
    Ok(answer)
}

/// Lets the viewer serve the stream, and counts its bytes meanwhile.
async fn attend(
    state: web::Data<AppState>,
    origin: Origin,
    grant: StreamGrant,
    (session, messages): (actix_ws::Session, actix_ws::MessageStream),
    hangup: Option<Hangup>,
) {
    let _count = state.metrics.stream(Arc::clone(&grant.meters));
    viewer::serve_on(state.viewer.clone(), origin, grant, session, messages, hangup).await;
}

fn asks_for_websocket(req: &HttpRequest) -> bool {
    let words = |name| req.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    words(header::UPGRADE).contains("websocket") && words(header::CONNECTION).contains("upgrade")
}

/// RFC 9110 section 15.5.22: says which protocol.
fn upgrade_required() -> HttpResponse {
    HttpResponse::UpgradeRequired()
        .insert_header((header::UPGRADE, "websocket"))
        .json(Problem { detail: "This address is a WebSocket: ask with Upgrade: websocket".to_owned() })
}
