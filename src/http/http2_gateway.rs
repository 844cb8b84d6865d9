//! HTTP/2 on the gateway's own names: hyper's server with the same limits as on applications'
//! names, since actix's has none; requests are answered by the actix application.

use super::actix_exchange::{ActixBody, actix_request, hyper_response};
use super::browser_io::BrowserIo;
use super::client_presence::ClientEnd;
use super::connections::header_block_io::HeaderBlockIo;
use super::connections::http2::{self, GATEWAY_BUFFERS};
use super::connections::lifetime::{Lifetime, LifetimeEvent};
use super::connections::pool::ConnectionHandle;
use super::connections::slot_io::SlotIo;
use super::h2_streams::{LocalH2Executor, StreamProgress, TrackedBody};
use super::head_limit::HEAD_MAX;
use super::server_limits::ServerLimits;
use actix_http::body::BoxBody;
use actix_service::Service;
use actix_web::HttpResponse;
use actix_web::dev::ServiceResponse;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

/// The byte stream of an HTTP/2 connection.
pub(super) type Http2Io = SlotIo<HeaderBlockIo<BrowserIo>>;

/// Serves a connection to its end.
pub(super) async fn serve<S, F>(
    io: Http2Io,
    service: Rc<S>,
    peer: Option<SocketAddr>,
    limits: ServerLimits,
    mut lifetime: Lifetime<F>,
) where
    S: Service<actix_http::Request, Response = ServiceResponse, Error = HttpResponse> + 'static,
    F: Future<Output = ()>,
{
    let handle = io.handle();
    let service = service_fn(move |request: Request<Incoming>| {
        let (service, handle) = (Rc::clone(&service), handle.clone());
        async move { Ok::<_, Infallible>(respond(request, service, peer, handle).await) }
    });
    let executor = LocalH2Executor { stall: limits.write_stall_timeout };
    let server = http2::builder(executor, GATEWAY_BUFFERS);
    let mut connection = pin!(server.serve_connection(TokioIo::new(io), service));
    loop {
        // In a `FuturesUnordered`, so that it is polled only when it is woken itself.
        let mut events = FuturesUnordered::from_iter([lifetime.next()]);
        let event = tokio::select! {
            outcome = connection.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "http.connection.failed");
                }
                return;
            }
            event = events.next() => event,
        };
        drop(events);
        match event {
            Some(LifetimeEvent::Retire) => connection.as_mut().graceful_shutdown(),
            Some(LifetimeEvent::Close) | None => return,
        }
    }
}

async fn respond<S>(
    request: Request<Incoming>,
    service: Rc<S>,
    peer: Option<SocketAddr>,
    handle: ConnectionHandle,
) -> Response<TrackedBody<ActixBody>>
where
    S: Service<actix_http::Request, Response = ServiceResponse, Error = HttpResponse> + 'static,
{
    let progress = StreamProgress::current();
    let is_head = *request.method() == Method::HEAD;
    let Some(mut guard) = handle.begin_request(kept_head(&request)) else {
        let refusal = hyper_response(too_many_large_heads(), is_head);
        return refusal.map(|body| TrackedBody::new(body, progress, None));
    };
    // Dropped when the client resets the stream, as this is then.
    let client = ClientEnd::default();
    let response = match actix_request(request, peer, handle, client.watch()) {
        Some(request) => {
            // Runs to its end whether or not the client waits for it, as a request of actix does.
            let answering = tokio::task::spawn_local(async move { service.call(request).await });
            match answering.await {
                Ok(Ok(response)) => response.into(),
                Ok(Err(error)) => error.into(),
                Err(_) => HttpResponse::InternalServerError().finish().into(),
            }
        }
        None => HttpResponse::BadRequest().body("The request is not understood\n").into(),
    };
    guard.set_answered();
    let response = hyper_response(response, is_head);
    response.map(|body| TrackedBody::new(body.with_client(client), progress, Some(guard)))
}

/// Bytes of a request's head that are kept while it is in progress, as HTTP/2 counts them. One that
/// is too large is refused at once.
pub(super) fn kept_head<B>(request: &Request<B>) -> usize {
    /// What a field takes beside its name and value (RFC 9113 section 6.5.2).
    const FIELD: usize = 32;
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter();
    let head = target + fields.map(|(n, v)| n.as_str().len() + v.len() + FIELD).sum::<usize>();
    if head > HEAD_MAX { 0 } else { head }
}

fn too_many_large_heads() -> actix_http::Response<BoxBody> {
    let mut response = HttpResponse::TooManyRequests();
    response.insert_header((actix_web::http::header::RETRY_AFTER, "1"));
    response.body("Too many large requests at once. Wait a moment, and try again.\n").into()
}
