//! The handlers of the workspaces dialect. Each has four beats: extract, call the broker, map,
//! answer. No query, no role check, no clock here.

pub mod audit;
pub mod auth;
pub mod dto;
pub mod events;
pub mod hosts;
pub mod ops;
pub mod requests;
pub mod sessions;
pub mod users;
pub mod workspaces;

use super::error::ApiResult;
use actix_web::HttpResponse;
use dto::Message;
use serde::Serialize;

/// 200 with a body.
fn ok(body: impl Serialize) -> ApiResult {
    Ok(HttpResponse::Ok().json(body))
}

/// 201 with a body.
fn created(body: impl Serialize) -> ApiResult {
    Ok(HttpResponse::Created().json(body))
}

/// 204.
fn no_content() -> ApiResult {
    Ok(HttpResponse::NoContent().finish())
}

/// 200 with a sentence.
fn message(message: &str) -> ApiResult {
    ok(Message { message: message.to_owned() })
}
