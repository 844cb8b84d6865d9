//! Responses of the handlers.

use super::dto::Message;
use crate::http::error::ApiResult;
use actix_web::HttpResponse;
use serde::Serialize;

/// 200 with a body.
pub(super) fn ok(body: impl Serialize) -> ApiResult {
    Ok(HttpResponse::Ok().json(body))
}

/// 201 with a body.
pub(super) fn created(body: impl Serialize) -> ApiResult {
    Ok(HttpResponse::Created().json(body))
}

/// 204.
pub(super) fn no_content() -> ApiResult {
    Ok(HttpResponse::NoContent().finish())
}

/// 200 with a sentence.
pub(super) fn message(message: &str) -> ApiResult {
    ok(Message { message: message.to_owned() })
}
