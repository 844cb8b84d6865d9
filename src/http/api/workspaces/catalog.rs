//! Workspaces: list, launch, stop, manage.

use super::dto::Message;
use super::dto::upstream::{AcceptCertificate, CredentialInput};
use super::dto::workspace::{Launch, LaunchOptions, Stopped, Workspace};
use super::dto::workspace_input::{CreateWorkspace, UpdateWorkspace};
use super::error_body::Problem;
use super::responses::{created, message, no_content, ok};
use crate::domain::Error;
use crate::http::error::ApiResult;
use crate::http::extract::{Authenticated, JsonBody, OptionalJsonBody, PathId, RequestMeta};
use crate::http::state::AppState;
use actix_web::web;

/// The workspaces the caller may launch.
#[utoipa::path(get, path = "/api/workspaces", tag = "workspaces", operation_id = "listWorkspaces",
    responses((status = 200, body = Vec<Workspace>), (status = 401, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn list(state: web::Data<AppState>, Authenticated(caller): Authenticated) -> ApiResult {
    let views = state.broker.workspaces().list(&caller).await?;
    ok(views.into_iter().map(Workspace::from).collect::<Vec<_>>())
}

/// One workspace.
#[utoipa::path(get, path = "/api/workspaces/{id}", tag = "workspaces", operation_id = "getWorkspace", params(("id" = String, Path, description = "Workspace")),
    responses((status = 200, body = Workspace), (status = 401, body = Problem), (status = 404, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn get(
    state: web::Data<AppState>,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    let view = state.broker.workspaces().get(&caller, &id.workspace()?).await?;
    ok(Workspace::from(view))
}

/// Launches a workspace, or returns the caller's running session of it.
///
/// Responds when the session's tunnel has completed its handshake and the desktop answers.
#[utoipa::path(post, path = "/api/workspaces/{id}/launch", tag = "workspaces", operation_id = "launchWorkspace", params(("id" = String, Path, description = "Workspace")), request_body = LaunchOptions,
    responses((status = 200, body = Launch), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "In use by someone else, or in maintenance", body = Problem),
        (status = 422, body = Problem),
        (status = 503, description = "No host is connected, or the desktop did not start", body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn launch(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
    OptionalJsonBody(options): OptionalJsonBody<LaunchOptions>,
) -> ApiResult {
    let (launcher, id) = (state.broker.launcher(), id.workspace()?);
    let launched = if options.replace {
        launcher.replace(&source, &caller, &id).await?
    } else {
        launcher.launch(&source, &caller, &id).await?
    };
    ok(Launch::from(launched))
}

/// Ends the sessions of a workspace: the caller's own; for an admin every one.
#[utoipa::path(post, path = "/api/workspaces/{id}/stop", tag = "workspaces", operation_id = "stopWorkspace", params(("id" = String, Path, description = "Workspace")),
    responses((status = 200, body = Stopped), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It has no active session", body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn stop(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    let ended = state.broker.workspaces().stop(&source, &caller, &id.workspace()?).await?;
    ok(Stopped::new(&ended).ok_or_else(|| Error::conflict("Workspace has no active session"))?)
}

/// Creates a workspace (admins).
#[utoipa::path(post, path = "/api/workspaces", tag = "workspaces", operation_id = "createWorkspace", request_body = CreateWorkspace,
    responses((status = 201, body = Workspace), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "The id is taken", body = Problem), (status = 422, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn create(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    JsonBody(body): JsonBody<CreateWorkspace>,
) -> ApiResult {
    let view = state.broker.workspaces().create(&source, &caller, body.try_into()?).await?;
    created(Workspace::from(view))
}

/// Changes a workspace (admins).
#[utoipa::path(patch, path = "/api/workspaces/{id}", tag = "workspaces", operation_id = "updateWorkspace", params(("id" = String, Path, description = "Workspace")),
    request_body = UpdateWorkspace,
    responses((status = 200, body = Workspace), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 422, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn update(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
    JsonBody(body): JsonBody<UpdateWorkspace>,
) -> ApiResult {
    let view = state
        .broker
        .workspaces()
        .update(&source, &caller, &id.workspace()?, body.try_into()?)
        .await?;
    ok(Workspace::from(view))
}

/// Removes a workspace and ends its sessions (admins).
#[utoipa::path(delete, path = "/api/workspaces/{id}", tag = "workspaces", operation_id = "deleteWorkspace", params(("id" = String, Path, description = "Workspace")),
    responses((status = 200, body = Message), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn delete(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    state.broker.workspaces().delete(&source, &caller, &id.workspace()?).await?;
    message("Workspace removed")
}

/// Saves the caller's own credential for a workspace, sealed; replaces the previous one.
#[utoipa::path(put, path = "/api/workspaces/{id}/credential", tag = "workspaces", operation_id = "saveCredential", params(("id" = String, Path, description = "Workspace")),
    request_body = CredentialInput,
    responses((status = 204, description = "Saved"), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "The workspace does not use its users' own", body = Problem), (status = 422, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn save_credential(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
    JsonBody(body): JsonBody<CredentialInput>,
) -> ApiResult {
    state.broker.credentials().save(&source, &caller, &id.workspace()?, body.into()).await?;
    no_content()
}

/// Removes the caller's own credential for a workspace.
#[utoipa::path(delete, path = "/api/workspaces/{id}/credential", tag = "workspaces", operation_id = "forgetCredential", params(("id" = String, Path, description = "Workspace")),
    responses((status = 204, description = "Removed"), (status = 401, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "The workspace has no server", body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn forget_credential(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    state.broker.credentials().forget(&source, &caller, &id.workspace()?).await?;
    no_content()
}

/// Pins the certificate that was refused last (admins).
#[utoipa::path(post, path = "/api/workspaces/{id}/certificate/accept", tag = "workspaces", operation_id = "acceptCertificate",
    params(("id" = String, Path, description = "Workspace")), request_body = AcceptCertificate,
    responses((status = 204, description = "Pinned"), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It is not the one offered, or the workspace trusts authorities", body = Problem), (status = 422, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn accept_certificate(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
    JsonBody(body): JsonBody<AcceptCertificate>,
) -> ApiResult {
    state.broker.certificates().accept(&source, &caller, &id.workspace()?, body).await?;
    no_content()
}
