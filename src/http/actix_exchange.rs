//! Requests of hyper for an actix service, and its responses for hyper. They use different versions
//! of the `http` crate, so that heads are copied.

use super::client_presence::{ClientEnd, ClientWatch};
use super::connections::pool::{ConnectionHandle, RequestGuard};
use crate::viewer::html5::BoxError;
use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::{BoxedPayloadStream, HttpMessage as _, Payload};
use actix_web::http as actix;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Fields that HTTP/2 does not have (RFC 9113 section 8.2.2).
const HOP_BY_HOP: [actix::header::HeaderName; 3] =
    [actix::header::CONNECTION, actix::header::TRANSFER_ENCODING, actix::header::UPGRADE];

/// The connection of a request that an actix server received.
pub(super) fn connection_of(request: &actix_web::HttpRequest) -> Option<ConnectionHandle> {
    let of_http1 = request.conn_data::<ConnectionHandle>().cloned();
    of_http1.or_else(|| request.extensions().get::<ConnectionHandle>().cloned())
}

/// A response body; its request is in progress until it has ended.
pub(super) struct CountedBody {
    body: BoxBody,
    _request: Option<RequestGuard>,
}

impl CountedBody {
    pub(super) fn new(body: BoxBody, request: Option<RequestGuard>) -> Self {
        Self { body, _request: request }
    }
}

impl MessageBody for CountedBody {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_pin_mut().poll_next(cx)
    }
}

/// A request for actix; `None`: it cannot be expressed.
pub(super) fn actix_request(
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
    connection: ConnectionHandle,
    client: ClientWatch,
) -> Option<actix_http::Request> {
    let (parts, body) = request.into_parts();
    let payload = if body.is_end_stream() {
        Payload::None
    } else {
        let failed = |error| PayloadError::Incomplete(Some(io::Error::other(error)));
        let stream: BoxedPayloadStream = Box::pin(body.into_data_stream().map_err(failed));
        Payload::from(stream)
    };
    let mut request = actix_http::Request::with_payload(payload);
    let head = request.head_mut();
    head.uri = parts.uri.to_string().parse().ok()?;
    head.method = actix::Method::from_bytes(parts.method.as_str().as_bytes()).ok()?;
    head.version = actix::Version::HTTP_2;
    head.peer_addr = peer;
    for (name, value) in &parts.headers {
        head.headers.append(
            actix::header::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?,
            actix::header::HeaderValue::from_bytes(value.as_bytes()).ok()?,
        );
    }
    request.extensions_mut().insert(connection);
    request.extensions_mut().insert(client);
    Some(request)
}

/// A response for hyper. `is_head`: to a `HEAD` request, which has no body.
pub(super) fn hyper_response(
    response: actix_http::Response<BoxBody>,
    is_head: bool,
) -> Response<ActixBody> {
    let (response, body) = response.into_parts();
    let size = body.size();
    let is_empty = is_head || size.is_eof();
    let mut converted = Response::new(ActixBody { body, is_empty, _client: None });
    // Both types have the same range of values.
    let status = StatusCode::from_u16(response.status().as_u16());
    *converted.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = converted.headers_mut();
    for (name, value) in response.headers() {
        if HOP_BY_HOP.contains(name) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    if let BodySize::Sized(length) = size {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    converted
}

/// The body of a response of actix.
pub(super) struct ActixBody {
    body: BoxBody,
    is_empty: bool,
    /// The client is there until it has the body.
    _client: Option<ClientEnd>,
}

impl ActixBody {
    /// Holds the client's end as long as the body is sent.
    pub(super) fn with_client(self, client: ClientEnd) -> Self {
        Self { _client: Some(client), ..self }
    }
}

impl Body for ActixBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.is_empty {
            return Poll::Ready(None);
        }
        let next = ready!(self.body.as_pin_mut().poll_next(cx));
        // An error of actix cannot be sent to another thread; its text can.
        Poll::Ready(next.map(|next| next.map(Frame::data).map_err(|e| e.to_string().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size() {
            _ if self.is_empty => SizeHint::with_exact(0),
            BodySize::Sized(length) => SizeHint::with_exact(length),
            BodySize::None | BodySize::Stream => SizeHint::default(),
        }
    }
}
