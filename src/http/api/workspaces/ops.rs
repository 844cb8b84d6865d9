//! Operations: health, metrics, token keys, and the OpenAPI document.

use super::dto::ops::{Health, HealthStatus, JwkSet};
use super::error_body::Problem;
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::RequestMeta;
use crate::http::metrics;
use crate::http::state::AppState;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

/// Health of the gateway and its parts, probed for this response.
#[utoipa::path(get, path = "/api/health", tag = "operations", operation_id = "health",
    responses((status = 200, body = Health), (status = 503, description = "A vital part is down", body = Health)))]
pub async fn health(state: web::Data<AppState>) -> ApiResult {
    let view = state.broker.health().probe().await;
    let health = Health::new(&view, &(state.tunnel)(), state.broker.now());
    let mut answer = if health.status == HealthStatus::Down {
        HttpResponse::ServiceUnavailable()
    } else {
        HttpResponse::Ok()
    };
    Ok(answer.json(health))
}

/// Metrics for Prometheus; only for the configured peers.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses((status = 200, content((String = "application/openmetrics-text"))), (status = 403, body = Problem)))]
pub async fn metrics(
    req: HttpRequest,
    state: web::Data<AppState>,
    RequestMeta(source): RequestMeta,
) -> ApiResult {
    let allowed =
        |net: &crate::domain::Network| source.source_ip.is_some_and(|ip| net.contains(ip));
    // Behind a proxy that is not configured as trusted, every client has the address of the proxy.
    let unknown_proxy =
        ["x-forwarded-for", "forwarded"].iter().any(|h| req.headers().contains_key(*h))
            && source.source_ip == req.peer_addr().map(|p| p.ip());
    if unknown_proxy || !state.settings.metrics_allow.iter().any(allowed) {
        return Err(ApiError::forbidden("Metrics are not for this address"));
    }
    let entries = state.broker.health().probe().await.audit.ok();
    let page = state.metrics.render(state.broker.health().gauges(), &(state.tunnel)(), entries);
    Ok(HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(page))
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "operations", operation_id = "openapi", responses((status = 200, content((Object = "application/json")))))]
pub async fn openapi(req: HttpRequest, state: web::Data<AppState>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(state.apis.of_path(req.path()).document.clone())
}

/// The public keys that verify access tokens.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "operations", operation_id = "jwks", responses((status = 200, body = JwkSet)))]
pub async fn jwks(state: web::Data<AppState>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=300"))
        .json(state.broker.logins().jwks())
}
