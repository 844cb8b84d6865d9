//! Middleware of every request: request id, span, access log, metrics, security headers, error
//! bodies, and panics of handlers.
//!
//! The access log has the route pattern, never the path or the query, which may contain an id or a
//! ticket.

use super::api::definition::Api;
use super::error::ApiError;
use super::forwarded::{ForwardedFields, client_address};
use super::head_limit::HeadTooLarge;
use super::metrics::Metrics;
use super::origin::{HostHeader, classify_host_header};
use super::security_headers;
use super::settings::Settings;
use super::state::{AppState, app_state};
use crate::domain::principal::Principal;
use crate::domain::user::RequestSource;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{ContentType, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use futures_util::FutureExt as _;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument as _;

/// Response header with the request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
/// Paths of monitoring tools.
const MONITORING_PATHS: [&str; 2] = ["/api/health", "/metrics"];
/// Characters of a user agent that are kept.
const USER_AGENT_MAX: usize = 256;

/// The outermost middleware.
///
/// # Errors
/// When a handler panicked; the error has a complete response.
pub async fn observe(
    req: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, actix_web::Error> {
    let state = app_state(req.request())?;
    let source = request_source(req.request(), &state.settings);
    let span = tracing::info_span!("request", request_id = %source.request_id);
    let path = req.path().to_owned();
    let api = Arc::clone(state.apis.of_path(&path));
    let context = RequestContext {
        started_at: Instant::now(),
        method: method_label(req.method().as_str()),
        source: source.clone(),
        span: span.clone(),
        settings: Arc::clone(&state.settings),
    };

    let checked = state
        .limits
        .any
        .check(source.source_ip)
        .map_err(ApiError::rate_limited)
        .and_then(|()| check_host_header(&req, &state));
    req.extensions_mut().insert(source);
    let outcome = match checked {
        Ok(()) => match head_too_large(req.request()) {
            Some(reason) => Ok(Ok(refuse_head(req, &api, reason))),
            None => AssertUnwindSafe(next.call(req)).catch_unwind().instrument(span.clone()).await,
        },
        Err(error) => Ok(Ok(req.error_response(error))),
    };

    match outcome {
        Ok(Ok(response)) => {
            let mut response = render_error(response, &api);
            let route = response.request().match_pattern();
            let user = response
                .request()
                .extensions()
                .get::<Principal>()
                .and_then(|c| c.user_id())
                .map(|id| id.to_string());
            context.record(&state.metrics, route.as_deref(), response.status(), user.as_deref());
            context.add_headers(&path, response.headers_mut());
            Ok(response)
        }
        Ok(Err(error)) => {
            let response = match error.as_error::<ApiError>() {
                Some(error) => (api.error_response)(error),
                None => error.as_response_error().error_response(),
            };
            Err(context.panic_response(&state.metrics, &path, response))
        }
        Err(_panic) => {
            let _in = span.enter();
            let response = (api.error_response)(&ApiError::internal());
            Err(context.panic_response(&state.metrics, &path, response))
        }
    }
}

/// Replaces an [`ApiError`] by the response of the API that the path belongs to.
fn render_error(response: ServiceResponse, api: &Api) -> ServiceResponse {
    let error = response.response().error().and_then(|error| error.as_error::<ApiError>());
    match error.map(api.error_response) {
        Some(rendered) => response.into_response(rendered),
        None => response,
    }
}

/// Whether the head of a request is too large. One beyond the HTTP server's own limit does not get
/// here ([`super::head_refusal_io`]).
fn head_too_large(req: &HttpRequest) -> Option<HeadTooLarge> {
    let target = req.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = req.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    HeadTooLarge::check(target, fields)
}

/// 431: a page for browsers, the API's error body for programs.
fn refuse_head(req: ServiceRequest, api: &Api, reason: HeadTooLarge) -> ServiceResponse {
    let accept = req.headers().get(header::ACCEPT).map(HeaderValue::as_bytes).unwrap_or_default();
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let mut response = if accept.windows(9).any(|word| word.eq_ignore_ascii_case(b"text/html")) {
        HttpResponse::build(status).content_type(ContentType::html()).body(reason.page())
    } else {
        (api.error_response)(&ApiError::new(status, reason.detail()))
    };
    if let Some(value) = reason.clear_site_data() {
        response.headers_mut().insert(CLEAR_SITE_DATA, HeaderValue::from_static(value));
    }
    req.into_response(response)
}

/// Refuses a request for a foreign host name (421, RFC 9110 section 15.5.20): a page of that name
/// would be same-origin with this gateway. Monitoring tools may use any name; their paths contain
/// nothing confidential.
fn check_host_header(req: &ServiceRequest, state: &AppState) -> Result<(), ApiError> {
    if MONITORING_PATHS.contains(&req.path()) {
        return Ok(());
    }
    match classify_host_header(req.request(), &state.settings) {
        HostHeader::Own => Ok(()),
        HostHeader::Foreign => Err(ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This gateway does not go by that name. Open it by its own address.",
        )),
        HostHeader::Ambiguous => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, "The request does not name one host"))
        }
    }
}

/// What is known when a request starts.
struct RequestContext {
    started_at: Instant,
    method: &'static str,
    source: RequestSource,
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
            address = self.source.source_ip.map(tracing::field::display),
            user,
            "request"
        );
    }

    fn add_headers(&self, path: &str, headers: &mut HeaderMap) {
        security_headers::add(path, headers, self.settings.apps.as_ref());
        if let Ok(id) = HeaderValue::from_str(&self.source.request_id) {
            headers.insert(REQUEST_ID, id);
        }
    }

    /// The response to a request whose handler panicked.
    fn panic_response(
        &self,
        metrics: &Metrics,
        path: &str,
        mut response: HttpResponse,
    ) -> actix_web::Error {
        self.record(metrics, None, response.status(), None);
        self.add_headers(path, response.headers_mut());
        InternalError::from_response("the handler did not finish", response).into()
    }
}

/// The request id is always generated (UUIDv7, which sorts by time): one from the client would
/// allow it to write into the logs.
fn request_source(req: &HttpRequest, settings: &Settings) -> RequestSource {
    let lines = |name| req.headers().get_all(name).filter_map(|v| v.to_str().ok()).collect();
    let fields = ForwardedFields {
        x_forwarded_for: lines("x-forwarded-for"),
        forwarded: lines("forwarded"),
    };
    let (trusted, believed) = (&settings.trusted_proxies, settings.proxy_header);
    let agent = req.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    RequestSource {
        request_id: uuid::Uuid::now_v7().to_string(),
        source_ip: req
            .peer_addr()
            .map(|peer| client_address(peer.ip(), &fields, trusted, believed)),
        user_agent: agent.map(|a| a.chars().take(USER_AGENT_MAX).collect()),
    }
}

/// The metric label of a method; unknown methods share one.
pub(super) fn method_label(method: &str) -> &'static str {
    ["GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"]
        .into_iter()
        .find(|m| *m == method)
        .unwrap_or("OTHER")
}
