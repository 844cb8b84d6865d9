//! The WebSocket of a session, until the viewer serves it: authentication, origin check, upgrade.
//!
//! The ticket is in the query, because a browser cannot add headers to a WebSocket request; it works
//! once, for 30 s, for one session, and queries are not logged.

use super::authentication::{authenticate, deny_and_audit, has_credentials, uses_cookie};
use super::error_body::Problem;
use crate::broker::core::stream_registry::StreamGrant;
use crate::broker::model::{StreamProof, TooManyViewers};
use crate::domain::Error;
use crate::domain::secret::SecretString;
use crate::domain::upstream;
use crate::domain::user::RequestSource;
use crate::http::actix_exchange::connection_of;
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{PathId, QueryParams, RequestMeta};
use crate::http::origin::{BrowserOrigin, classify_origin};
use crate::http::state::AppState;
use crate::viewer;
use crate::viewer::socket_shutdown::SocketShutdown;
use crate::viewer::websocket::WebSocket;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{CloseCode, CloseReason};
use serde::Deserialize;
use std::sync::Arc;
use tracing::Instrument as _;
use utoipa::IntoParams;

/// Close code: the session has the maximum number of viewers.
const CLOSE_TOO_MANY_VIEWERS: u16 = 4003;

/// Query of the stream.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// One-use ticket; without one, a bearer token or the cookie is required.
    #[param(value_type = Option<String>)]
    ticket: Option<SecretString>,
    /// `rdp`: the layout of the browser's keyboard, such as `0x00000407` for German; told to the
    /// server unless the workspace has one (`keyboard` of the ticket).
    keyboard: Option<String>,
}

/// The session's stream: a WebSocket of binary messages.
///
/// For `linux` and `vnc` workspaces it speaks RFB 3.8 with security type None. For `rdp` workspaces
/// it speaks RDCleanPath, with the destination `session:<id>` and any `proxy_auth`, then RDP
/// without CredSSP, whatever the server wants. Close codes: 4000 the session ended (the reason is
/// its `end_reason`), 4001 signed out, 4002 the desktop cannot be reached, 4003 too many viewers,
/// 4004 its server shows another certificate, 4005 it needs a credential, 4006 it did not take the
/// credential (where that came from, a space, and why in one word, such as `workspace
/// account_locked`), 4007 something that policy forbids, or `redirected`: its server leads
/// elsewhere, 4008 its server ended it and said why (one word, such as `desktop_taken_over`), 1003
/// a text frame, 1009 a frame too big, 1001 the gateway goes away.
#[utoipa::path(get, path = "/api/sessions/{id}/stream", tag = "sessions", operation_id = "openStream",
    params(("id" = uuid::Uuid, Path, description = "Session"), StreamQuery),
    responses(
        (status = 101, description = "The stream is open"),
        (status = 401, description = "No proof, or a ticket that is used, expired or unknown", body = Problem),
        (status = 403, description = "The page is not of this gateway", body = Problem),
        (status = 404, description = "No such session of the caller", body = Problem),
        (status = 409, description = "The session is not active, or is a web application", body = Problem),
        (status = 426, description = "Not a WebSocket request", body = Problem)),
    security((), ("bearer" = []), ("cookie" = [])))]
pub async fn open(
    req: HttpRequest,
    payload: web::Payload,
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    QueryParams(query): QueryParams<StreamQuery>,
    id: PathId,
) -> ApiResult {
    if !is_websocket_upgrade(&req) {
        return Ok(upgrade_required());
    }
    let page = classify_origin(&req, &state.settings.public_origins);
    // Browsers always send `Origin` with a WebSocket request.
    let needs_origin = query.ticket.is_none() && uses_cookie(&req);
    if page == BrowserOrigin::Foreign || (needs_origin && page == BrowserOrigin::Absent) {
        return deny_and_audit(&req, None, "foreign_origin").await;
    }
    let keyboard = upstream::parse_keyboard_layout(query.keyboard.as_deref().unwrap_or_default())
        .ok_or_else(|| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "keyboard must be a Windows input locale identifier, such as 0x00000407",
        )
    })?;
    let granted = match query.ticket {
        Some(ticket) => {
            state.broker.streams().open(&source, id.session()?, StreamProof::Ticket(&ticket)).await
        }
        None if has_credentials(&req) => {
            let caller = authenticate(&req).await?;
            state
                .broker
                .streams()
                .open(&source, id.session()?, StreamProof::Principal(&caller))
                .await
        }
        None => return Err(ApiError::unauthenticated()),
    };
    let mut grant = match granted {
        Ok(grant) => grant,
        Err(error) if is_viewer_limit(&error) => return refuse_viewer(&req, payload),
        Err(error) => return Err(error.into()),
    };
    if let Some(connection) = connection_of(&req) {
        connection.set_authenticated();
    }
    if let Some(layout) = keyboard {
        grant.lease.prefer_keyboard_layout(layout);
    }
    if grant.lease.upstream().web_app().is_some() {
        state.broker.streams().close(&source, grant, "not_a_desktop").await?;
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "This session is a web application: it has an origin of its own, and no stream",
        ));
    }
    let Ok((answer, browser)) = viewer::websocket::upgrade(&req, payload) else {
        state.broker.streams().close(&source, grant, "bad_handshake").await?;
        return Err(bad_handshake());
    };
    let hangup = req.conn_data::<SocketShutdown>().cloned();
    actix_web::rt::spawn(serve_stream(state, source, grant, browser, hangup).in_current_span());
    Ok(answer)
}

fn bad_handshake() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "The WebSocket handshake is not valid")
}

fn is_viewer_limit(error: &Error) -> bool {
    error.source.as_deref().is_some_and(|cause| cause.is::<TooManyViewers>())
}

/// Browsers do not report the status of a refused upgrade to scripts, so the refusal is a close code
/// of an accepted WebSocket.
fn refuse_viewer(req: &HttpRequest, payload: web::Payload) -> ApiResult {
    let (answer, session, _) = actix_ws::handle(req, payload).map_err(|_| bad_handshake())?;
    let why = CloseReason {
        code: CloseCode::Other(CLOSE_TOO_MANY_VIEWERS),
        description: Some("too_many_viewers".to_owned()),
    };
    // A new stream has capacity for one message; a disconnected browser needs none.
    actix_web::rt::spawn(async move { drop(session.close(Some(why)).await) });
    Ok(answer)
}

/// Serves the stream and counts its bytes.
async fn serve_stream(
    state: web::Data<AppState>,
    source: RequestSource,
    grant: StreamGrant,
    browser: WebSocket,
    hangup: Option<SocketShutdown>,
) {
    let _count = state.metrics.track_stream(Arc::clone(&grant.meters));
    viewer::serve_with_shutdown(state.viewer.clone(), source, grant, browser, hangup).await;
}

fn is_websocket_upgrade(req: &HttpRequest) -> bool {
    let words = |name| {
        req.headers()
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    words(header::UPGRADE).contains("websocket") && words(header::CONNECTION).contains("upgrade")
}

/// RFC 9110 section 15.5.22: names the protocol.
fn upgrade_required() -> HttpResponse {
    HttpResponse::UpgradeRequired().insert_header((header::UPGRADE, "websocket")).json(Problem {
        detail: "This address is a WebSocket: ask with Upgrade: websocket".to_owned(),
    })
}
