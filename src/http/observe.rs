//! Around every request: its id, its span, its access line, its numbers, its headers, and the net
//! under a handler that panics.
//!
//! The access line names the route's pattern, never the path or the query: a path may hold an id, a
//! query a ticket.

use super::error::ApiError;
use super::guard::app_state;
use super::metrics::Metrics;
use super::origin::{HostHeader, classify_host_header, client_address};
use super::{AppState, Settings, security_headers};
use crate::domain::user::{Caller, RequestSource};
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpRequest};
use futures_util::FutureExt as _;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument as _;

/// Carries the request's id back.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What monitoring asks.
const MONITORING_PATHS: [&str; 2] = ["/api/health", "/metrics"];
/// Longest user agent kept.
const USER_AGENT_MAX: usize = 256;

/// The outermost middleware.
///
/// # Errors
/// Only for a request whose handler panicked; its answer is complete, too.
pub async fn observe(
    req: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, actix_web::Error> {
    let began = Instant::now();
    let state = app_state(req.request())?;
    let origin = request_origin(req.request(), &state.settings.trusted_proxies);
    let span = tracing::info_span!("request", request_id = %origin.request_id);
    let path = req.path().to_owned();
    let seen = RequestContext {
        started_at: began,
        method: method_label(req.method().as_str()),
        origin: origin.clone(),
        span: span.clone(),
        settings: Arc::clone(&state.settings),
    };

    let admitted = state
        .limits
        .any
        .check(origin.source_ip)
        .map_err(ApiError::rate_limited)
        .and_then(|()| check_host_header(&req, &state));
    req.extensions_mut().insert(origin);
    let outcome = match admitted {
        Ok(()) => AssertUnwindSafe(next.call(req)).catch_unwind().instrument(span.clone()).await,
        Err(refusal) => Ok(Ok(req.error_response(refusal))),
    };

    match outcome {
        Ok(Ok(mut answer)) => {
            let route = answer.request().match_pattern();
            let user = answer.request().extensions().get::<Caller>().map(|c| c.user.id.to_string());
            seen.record(&state.metrics, route.as_deref(), answer.status(), user.as_deref());
            seen.add_headers(&path, answer.headers_mut());
            Ok(answer)
        }
        Ok(Err(error)) => Err(seen.panic_response(
            &state.metrics,
            &path,
            error.as_response_error().error_response(),
        )),
        Err(_panic) => {
            let _in = span.enter();
            Err(seen.panic_response(
                &state.metrics,
                &path,
                actix_web::ResponseError::error_response(&ApiError::internal()),
            ))
        }
    }
}

/// Refuses a request that came by a name that is not ours (RFC 9110 section 15.5.20): a page of
/// that name would be taken for one of ours. Probes come by whatever name their tools know, and say
/// nothing of anybody.
fn check_host_header(req: &ServiceRequest, state: &AppState) -> Result<(), ApiError> {
    if MONITORING_PATHS.contains(&req.path()) {
        return Ok(());
    }
    match classify_host_header(req.request(), &state.settings) {
        HostHeader::Ours => Ok(()),
        HostHeader::Foreign => Err(ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This gateway does not go by that name. Open it by its own address.",
        )),
        HostHeader::Unclear => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, "The request does not name one host"))
        }
    }
}

/// What is known when a request begins.
struct RequestContext {
    started_at: Instant,
    method: &'static str,
    origin: RequestSource,
    span: tracing::Span,
    settings: Arc<Settings>,
}

impl RequestContext {
    fn record(
        &self,
        metrics: &Metrics,
        route: Option<&str>,
        status: StatusCode,
        user: Option<&str>,
    ) {
        let took = self.started_at.elapsed();
        metrics.record_request(
            self.method,
            route.map(|route| Cow::Owned(route.to_owned())),
            status.as_u16(),
            took,
        );
        tracing::info!(
            target: "portcullis::access",
            parent: &self.span,
            method = self.method,
            route = route.unwrap_or("unmatched"),
            status = status.as_u16(),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            address = self.origin.source_ip.map(tracing::field::display),
            user,
            "request"
        );
    }

    fn add_headers(&self, path: &str, headers: &mut HeaderMap) {
        security_headers::add(path, headers, self.settings.apps.as_ref());
        if let Ok(id) = HeaderValue::from_str(&self.origin.request_id) {
            headers.insert(REQUEST_ID, id);
        }
    }

    /// An answer whose request is gone (its handler panicked): dressed all the same.
    fn panic_response(
        &self,
        metrics: &Metrics,
        path: &str,
        mut answer: actix_web::HttpResponse,
    ) -> actix_web::Error {
        self.record(metrics, None, answer.status(), None);
        self.add_headers(path, answer.headers_mut());
        InternalError::from_response("the handler did not finish", answer).into()
    }
}

/// Always a fresh id (UUIDv7, so that logs sort): a client's own would let it write into our logs.
fn request_origin(req: &HttpRequest, trusted: &[crate::domain::Network]) -> RequestSource {
    let forwarded = req
        .headers()
        .get_all(FORWARDED_FOR)
        .filter_map(|v| v.to_str().ok())
        .collect::<Vec<_>>()
        .join(",");
    let agent = req.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    RequestSource {
        request_id: uuid::Uuid::now_v7().to_string(),
        source_ip: req.peer_addr().map(|peer| client_address(peer.ip(), &forwarded, trusted)),
        user_agent: agent.map(|a| a.chars().take(USER_AGENT_MAX).collect()),
    }
}

/// Methods as labels: a known few, whatever a client invents.
pub(super) fn method_label(method: &str) -> &'static str {
    ["GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"]
        .into_iter()
        .find(|m| *m == method)
        .unwrap_or("OTHER")
}
