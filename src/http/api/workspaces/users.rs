//! Users (admins; security may list them).

use super::dto::Message;
use super::dto::user::{CreateUser, UpdateUser, UserDetails};
use super::error_body::Problem;
use super::responses::{created, message, ok};
use crate::http::error::ApiResult;
use crate::http::extract::{Authenticated, JsonBody, PathId, RequestMeta};
use crate::http::state::AppState;
use actix_web::web;

/// Every user of the organization.
#[utoipa::path(get, path = "/api/users", tag = "admin", operation_id = "listUsers",
    responses((status = 200, body = Vec<UserDetails>), (status = 401, body = Problem), (status = 403, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn list(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
) -> ApiResult {
    let users = state.broker.users().list(&source, &caller).await?;
    ok(users.into_iter().map(UserDetails::from).collect::<Vec<_>>())
}

/// Creates a user.
#[utoipa::path(post, path = "/api/users", tag = "admin", operation_id = "createUser", request_body = CreateUser,
    responses((status = 201, body = UserDetails), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "The address is taken", body = Problem), (status = 422, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn create(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    JsonBody(body): JsonBody<CreateUser>,
) -> ApiResult {
    let user = state.broker.users().create(&source, &caller, body.into()).await?;
    created(UserDetails::from(user))
}

/// Changes a user. Nobody disables or demotes themself.
#[utoipa::path(patch, path = "/api/users/{id}", tag = "admin", operation_id = "updateUser", params(("id" = uuid::Uuid, Path, description = "User")), request_body = UpdateUser,
    responses((status = 200, body = UserDetails), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)), security(("bearer" = []), ("cookie" = [])))]
pub async fn update(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
    JsonBody(body): JsonBody<UpdateUser>,
) -> ApiResult {
    let user = state.broker.users().update(&source, &caller, id.user()?, body.into()).await?;
    ok(UserDetails::from(user))
}

/// Removes a user's second factor, so that they can enrol another.
#[utoipa::path(post, path = "/api/users/{id}/reset-mfa", tag = "admin", operation_id = "resetUserMfa", params(("id" = uuid::Uuid, Path, description = "User")),
    responses((status = 200, body = Message), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn reset_mfa(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    state.broker.users().reset_mfa(&source, &caller, id.user()?).await?;
    message("Second factor reset")
}

/// Ends every login and every session of a user.
#[utoipa::path(post, path = "/api/users/{id}/sign-out", tag = "admin", operation_id = "signOutUser", params(("id" = uuid::Uuid, Path, description = "User")),
    responses((status = 200, body = Message), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)),
    security(("bearer" = []), ("cookie" = [])))]
pub async fn sign_out(
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
    Authenticated(caller): Authenticated,
    id: PathId,
) -> ApiResult {
    state.broker.users().sign_out(&source, &caller, id.user()?).await?;
    message("User signed out")
}
