//! Workspace hosts: enrol, list, remove.

use super::dto::Message;
use super::dto::host::{
    AddPeer, CreateJoinToken, EnrollHost, Enrolment, Host, JoinToken, PeerConfiguration, UpdateHost,
};
use super::error_body::Problem;
use super::responses::{created, message, ok};
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::{Authenticated, JsonBody, OptionalJsonBody, PathId, RequestMeta};
use crate::http::state::AppState;
use actix_web::web;
use std::time::Duration;

/// Lifetime of join tokens, in seconds.
const JOIN_TOKEN_TTL_DEFAULT: u64 = 3600;
const JOIN_TOKEN_TTL_RANGE: std::ops::RangeInclusive<u64> = 60..=604_800;

/// Every host of the organization.
#[utoipa::path(get, path = "/api/hosts", tag = "hosts", operation_id = "listHosts",
    responses((status = 200, body = Vec<Host>), (status = 401, body = Problem), (status = 403, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn list(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
) -> ApiResult {
    let views = state.broker.hosts().list(&source, &caller).await?;
    ok(views.into_iter().map(Host::from).collect::<Vec<_>>())
}

/// Creates a one-time token with which a host joins.
#[utoipa::path(post, path = "/api/hosts/join-tokens", tag = "hosts", operation_id = "createJoinToken", request_body = CreateJoinToken,
    responses((status = 201, body = JoinToken), (status = 401, body = Problem), (status = 403, body = Problem), (status = 422, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn create_join_token(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    OptionalJsonBody(body): OptionalJsonBody<CreateJoinToken>,
) -> ApiResult {
    let life = body.expires_in_seconds.unwrap_or(JOIN_TOKEN_TTL_DEFAULT);
    if !JOIN_TOKEN_TTL_RANGE.contains(&life) {
        return Err(ApiError::invalid("expires_in_seconds is 60 to 604800"));
    }
    let token = state
        .broker
        .hosts()
        .create_join_token(&source, &caller, body.name, Duration::from_secs(life))
        .await?;
    let gateway = state.settings.public_origins.first().map_or("https://GATEWAY", String::as_str);
    created(JoinToken::new(&token, gateway, state.settings.certificate_sha256.as_deref()))
}

/// Adds a standard WireGuard peer as a host.
#[utoipa::path(post, path = "/api/hosts/peers", tag = "hosts", operation_id = "addPeer", request_body = AddPeer,
    responses((status = 201, body = Host), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "The key or the address is another host's", body = Problem), (status = 422, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn add_peer(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    JsonBody(body): JsonBody<AddPeer>,
) -> ApiResult {
    let view = state.broker.peers().add(&source, &caller, body.into()).await?;
    created(Host::from(view))
}

/// Returns a standard peer's `wg-quick` file. It contains a preshared key, so reading it is a POST
/// and audited.
#[utoipa::path(post, path = "/api/hosts/{id}/config", tag = "hosts", operation_id = "showHostConfig", params(("id" = uuid::Uuid, Path, description = "Host")),
    responses((status = 200, body = PeerConfiguration), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "The host has an agent", body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn config(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    let config = state.broker.peers().config(&source, &caller, id.host()?).await?;
    ok(PeerConfiguration { config: config.expose().clone() })
}

/// Enrols a host. Called by the agent; authenticated by the join token.
#[utoipa::path(post, path = "/api/hosts/enroll", tag = "hosts", operation_id = "enrollHost", request_body = EnrollHost,
    responses((status = 201, body = Enrolment), (status = 401, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
pub async fn enroll(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    JsonBody(body): JsonBody<EnrollHost>,
) -> ApiResult {
    let enrolled = state.broker.hosts().enroll(&source, body.into()).await?;
    created(Enrolment::from(enrolled))
}

/// Drains a host, or lets it take sessions again. A drained host takes no new sessions; its present
/// ones go on.
#[utoipa::path(patch, path = "/api/hosts/{id}", tag = "hosts", operation_id = "updateHost", params(("id" = uuid::Uuid, Path, description = "Host")), request_body = UpdateHost,
    responses((status = 200, body = Host), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn update(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
    JsonBody(body): JsonBody<UpdateHost>,
) -> ApiResult {
    let hosts = state.broker.hosts();
    let view = hosts.set_drained(&source, &caller, id.host()?, body.drained).await?;
    ok(Host::from(view))
}

/// Removes a host and ends its sessions.
#[utoipa::path(delete, path = "/api/hosts/{id}", tag = "hosts", operation_id = "removeHost", params(("id" = uuid::Uuid, Path, description = "Host")),
    responses((status = 200, body = Message), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn remove(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    state.broker.hosts().remove(&source, &caller, id.host()?).await?;
    message("Host removed")
}
