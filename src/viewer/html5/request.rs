//! A request in progress: its steps toward the application and back, and how it can fail.

use super::body::Body;
use super::connection::OutboundRequest;
use super::context::AppContext;
use super::error::ProxyError;
use super::exchange::exchange;
use super::head::{IdentityHeaders, request_line};
use super::policy::{self, Refusal};
use super::progress::RequestProgress;
use super::request_body::RequestBody;
use super::request_log::RequestLogEntry;
use super::response_body::ResponseBody;
use crate::domain::web_app::UpstreamSignIn;
use crate::protocol::http1::write_field;
use crate::viewer::stream_audit::StreamAudit as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Response, StatusCode, Uri};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A request in progress.
pub(super) struct ProxyRequest<'a> {
    pub(super) app: &'a Arc<AppContext>,
    /// The browser's address.
    pub(super) client: IpAddr,
    pub(super) progress: &'a Arc<RequestProgress>,
}

/// Why a request has no response of the application.
pub(super) enum RequestError {
    Proxy(ProxyError),
    /// Policy refuses it; so many bytes were held back.
    Refused(Refusal, u64),
    /// It is not a valid WebSocket handshake.
    Handshake(&'static str),
}

impl From<ProxyError> for RequestError {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(error)
    }
}

/// A response that may be forwarded.
pub(super) enum ProxyResponse {
    Forwarded(Response<ResponseBody>),
    /// A WebSocket: the response to the browser, and the task that relays messages after it.
    Upgraded(Response<Body>, Box<dyn FnOnce(RequestLogEntry) + Send>),
}

impl ProxyRequest<'_> {
    /// Checks a request against the policy. `length`: of its body; `None`: unknown.
    pub(super) fn authorize(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        length: Option<u64>,
    ) -> Result<(), RequestError> {
        let rules = &self.app.upstream.config.requests;
        policy::check_request(rules, method, uri.path(), headers, length)
            .map_err(|refusal| RequestError::Refused(refusal, length.unwrap_or(0)))
    }

    /// The request as it is sent to the application, with framing of its own.
    pub(super) fn rewrite(
        &self,
        parts: &Parts,
        body: Incoming,
        length: Option<u64>,
        identity: &IdentityHeaders,
    ) -> OutboundRequest {
        let mut head = request_line(&parts.method, request_target(&parts.uri));
        self.app.rewriter.write_request_fields(&mut head, &parts.headers, self.client, identity);
        match length {
            Some(0) if !parts.headers.contains_key(header::CONTENT_LENGTH) => {}
            Some(length) => {
                write_field(&mut head, &header::CONTENT_LENGTH, &HeaderValue::from(length));
            }
            None => {
                let chunked = HeaderValue::from_static("chunked");
                write_field(&mut head, &header::TRANSFER_ENCODING, &chunked);
            }
        }
        let body = (length != Some(0)).then(|| {
            let mut body = RequestBody::new(
                body,
                Arc::clone(self.progress),
                Arc::clone(&self.app.lifecycle),
                Arc::clone(&self.app.grant.meters),
                self.app.upstream.config.requests.max_request,
            );
            if expects_continue(&parts.headers) {
                let expect = HeaderValue::from_static("100-continue");
                write_field(&mut head, &header::EXPECT, &expect);
                body.wait_for_continue();
            }
            Box::new(body)
        });
        OutboundRequest::new(head, &parts.method, body)
    }

    /// Sends the request and waits for the response head.
    pub(super) async fn exchange(
        &self,
        request: OutboundRequest,
    ) -> Result<Response<ResponseBody>, RequestError> {
        match exchange(self.app, request, self.progress).await {
            // The application may have responded to a part of the body, or closed the connection:
            // the refusal is the cause.
            _ if self.progress.is_too_large() => {
                Err(RequestError::Refused(Refusal::Size, self.progress.bytes_up()))
            }
            Ok(response) => Ok(response),
            Err(error) => Err(error.into()),
        }
    }

    /// Checks a response against the policy, and audits a refused sign-in.
    pub(super) async fn check_response(
        &self,
        response: &mut Response<ResponseBody>,
    ) -> Result<(), RequestError> {
        let config = &self.app.upstream.config;
        let empty = response.body().is_end_stream();
        policy::check_response(&config.requests, response.status(), response.headers(), empty)
            .map_err(|refusal| {
                let length = response.body().size_hint().exact();
                RequestError::Refused(refusal, length.unwrap_or(0))
            })?;
        if config.sign_in != UpstreamSignIn::None && response.status() == StatusCode::UNAUTHORIZED {
            Box::pin(self.audit_sign_in_refused()).await?;
            // A browser would ask its user for a password that is never sent.
            response.headers_mut().remove(header::WWW_AUTHENTICATE);
        }
        Ok(())
    }

    /// Maps the head of a response to the application's public origin, and sets its length.
    pub(super) fn rewrite_response(&self, response: &mut Response<ResponseBody>, to_head: bool) {
        self.app.rewriter.rewrite_response_fields(response.headers_mut());
        set_content_length(response, to_head);
    }

    /// Audited once per application: one that refuses one request refuses all.
    async fn audit_sign_in_refused(&self) -> Result<(), ProxyError> {
        let app = self.app;
        if app.upstream.sign_in_refused.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        app.lifecycle
            .unless_ended(async {
                app.grant.login_refused("refused").await.map_err(|error| {
                    app.upstream.sign_in_refused.store(false, Ordering::Relaxed);
                    tracing::error!(%error, "application.sign_in.unrecorded");
                    ProxyError::AuditUnavailable
                })
            })
            .await
    }
}

/// Sets the length of the body itself, whatever the head declared. In a response to HEAD the
/// declared length is kept: it is that of the body to GET (RFC 9110 sections 8.6 and 9.3.2).
fn set_content_length(response: &mut Response<ResponseBody>, to_head: bool) {
    if response.body().is_end_stream() && to_head {
        return;
    }
    let no_content = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = response.body().size_hint().exact().filter(|_| !no_content);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The request target in origin form or `*` (RFC 9112 section 3.2), byte for byte as the browser
/// sent it.
pub(super) fn request_target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
