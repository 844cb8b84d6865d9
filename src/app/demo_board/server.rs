//! HTTP server of the board.

use super::state::{Board, ClientCommand, Presence, StickyNote};
use crate::app::failure::Failure;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Longest message, and file, bytes.
const MESSAGE_MAX: usize = 8 * 1024;
const FILE_MAX: usize = 512 * 1024;
/// Most connections at once.
const CONNECTIONS_MAX: usize = 128;
/// Longest wait for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const PAGE: &str = include_str!("../../../static/demo/board.html");
const SCRIPT: &str = include_str!("../../../static/demo/board.js");
const STYLE: &str = include_str!("../../../static/demo/board.css");

/// A board that serves until dropped.
pub struct Running {
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a board on a loopback port.
///
/// # Errors
/// When there is no port.
pub async fn start() -> Result<Running, Failure> {
    let failed =
        |e: std::io::Error| Failure::new(format!("cannot start the demo's web application: {e}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let task = tokio::spawn(serve(listener, Arc::new(Board::new()))).abort_handle();
    Ok(Running { address, task })
}

async fn serve(listener: TcpListener, board: Arc<Board>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped, and so aborted, with the server.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let board = Arc::clone(&board);
        connections.spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request| {
                let board = Arc::clone(&board);
                async move { Ok::<_, Infallible>(route(board, request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            let http = http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            // A broken connection concerns its client only.
            drop(http.serve_connection(TokioIo::new(stream), service).with_upgrades().await);
        });
    }
}

async fn route(board: Arc<Board>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    match (request.uri().path(), is_read) {
        ("/", true) => response(PAGE, "text/html; charset=utf-8"),
        ("/board.js", true) => response(SCRIPT, "text/javascript; charset=utf-8"),
        ("/board.css", true) => response(STYLE, "text/css; charset=utf-8"),
        ("/me", true) => response(identity_json(request.headers()).to_string(), "application/json"),
        ("/board.json", true) => {
            let mut file =
                response(json!({"notes": board.state().notes}).to_string(), "application/json");
            file.headers_mut().insert(
                header::CONTENT_DISPOSITION,
                HeaderValue::from_static("attachment; filename=\"board.json\""),
            );
            file
        }
        ("/board.json", false) if request.method() == Method::POST => import(&board, request).await,
        ("/live", true) => upgrade(board, request),
        ("/" | "/board.js" | "/board.css" | "/me" | "/board.json" | "/live", _) => {
            text_response(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
        }
        (_, _) => text_response(StatusCode::NOT_FOUND, "There is no such page"),
    }
}

/// The user, as the gateway's headers say.
fn identity_json(headers: &HeaderMap) -> serde_json::Value {
    let value = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let signed = headers.contains_key("x-portcullis-assertion");
    json!({"user": value("x-forwarded-user"), "name": value("x-forwarded-name"), "groups": value("x-forwarded-groups"), "signed": signed})
}

fn display_name(headers: &HeaderMap) -> String {
    let named = ["x-forwarded-name", "x-forwarded-user"]
        .into_iter()
        .find_map(|name| headers.get(name)?.to_str().ok());
    named.filter(|name| !name.is_empty()).unwrap_or("Somebody").chars().take(80).collect()
}

async fn import(board: &Board, request: Request<Incoming>) -> Response<Full<Bytes>> {
    #[derive(Deserialize)]
    struct File {
        notes: Vec<StickyNote>,
    }
    let Ok(body) = Limited::new(request.into_body(), FILE_MAX).collect().await else {
        return text_response(StatusCode::PAYLOAD_TOO_LARGE, "The file is too big");
    };
    let Ok(file) = serde_json::from_slice::<File>(&body.to_bytes()) else {
        return text_response(
            StatusCode::UNPROCESSABLE_ENTITY,
            "This is no board: choose a file that was saved here",
        );
    };
    {
        let mut state = board.state();
        state.notes.clear();
        file.notes.into_iter().for_each(|note| state.add(note));
    }
    board.notify_changed();
    text_response(StatusCode::OK, "Loaded")
}

/// RFC 6455 section 4.2.2.
fn upgrade(board: Arc<Board>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(accept) = request
        .headers()
        .get(header::SEC_WEBSOCKET_KEY)
        .map(|key| derive_accept_key(key.as_bytes()))
    else {
        return text_response(StatusCode::UPGRADE_REQUIRED, "This address is a WebSocket");
    };
    let who = display_name(request.headers());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            serve_page(&board, upgraded, &who).await;
        }
    });
    let mut answer = text_response(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

/// Sends the board to a page whenever it changed, and applies the page's commands.
async fn serve_page(board: &Board, upgraded: Upgraded, user: &str) {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
    let (mut sink, mut stream) = socket.split();
    let mut changed = board.changed.subscribe();
    let _presence = Presence::enter(board, user);
    changed.mark_changed();
    loop {
        tokio::select! {
            change = changed.changed() => {
                if change.is_err() || sink.send(Message::text(board.to_json())).await.is_err() {
                    return;
                }
            }
            received = stream.next() => {
                let Some(Ok(message)) = received else { return };
                if let Ok(command) = message.to_text().map_or(Err(()), |text| serde_json::from_str::<ClientCommand>(text).map_err(drop)) {
                    board.state().apply(command, user);
                    board.notify_changed();
                }
            }
        }
    }
}

fn response(body: impl Into<Bytes>, kind: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

fn text_response(status: StatusCode, line: &'static str) -> Response<Full<Bytes>> {
    let mut answer = response(line, "text/plain; charset=utf-8");
    *answer.status_mut() = status;
    answer
}
