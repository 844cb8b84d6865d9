//! The demo's web application: a team board of sticky notes that everybody on it sees move. Small,
//! and a real one: pages, a WebSocket, a file to load and to save, and whom the gateway says its
//! user is. In memory alone; it listens on loopback, and only the demo's agent leads there.

use super::failure::Failure;
use crate::domain::sync::lock;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Most notes, and the longest text of one, characters.
const NOTES_MAX: usize = 200;
const TEXT_MAX: usize = 400;
/// Longest message, and file, bytes.
const MESSAGE_MAX: usize = 8 * 1024;
const FILE_MAX: usize = 512 * 1024;
/// Connections at once.
const CONNECTIONS_MAX: usize = 128;
/// A request's head must be there by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Colours a note can have.
const COLOURS: [&str; 5] = ["yellow", "green", "blue", "pink", "violet"];

const PAGE: &str = include_str!("../../static/demo/board.html");
const SCRIPT: &str = include_str!("../../static/demo/board.js");
const STYLE: &str = include_str!("../../static/demo/board.css");

/// A sticky note.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct StickyNote {
    #[serde(default)]
    id: u64,
    text: String,
    colour: String,
    /// Where it is, in thousandths of the board.
    x: u16,
    y: u16,
    #[serde(default)]
    by: String,
}

impl StickyNote {
    fn sanitized(mut self) -> Self {
        self.text =
            self.text.chars().filter(|c| !c.is_control() || *c == '\n').take(TEXT_MAX).collect();
        self.by = self.by.chars().filter(|c| !c.is_control()).take(80).collect();
        if !COLOURS.contains(&self.colour.as_str()) {
            COLOURS[0].clone_into(&mut self.colour);
        }
        (self.x, self.y) = (self.x.min(1000), self.y.min(1000));
        self
    }
}

/// What a browser says.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum ClientCommand {
    Add { text: String, colour: String, x: u16, y: u16 },
    Move { id: u64, x: u16, y: u16 },
    Write { id: u64, text: String },
    Remove { id: u64 },
}

#[derive(Default)]
struct BoardState {
    notes: Vec<StickyNote>,
    last: u64,
    /// Who is here: one entry per open page.
    present: Vec<(u64, String)>,
}

impl BoardState {
    fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn add(&mut self, note: StickyNote) {
        if self.notes.len() < NOTES_MAX {
            let id = self.next_id();
            self.notes.push(StickyNote { id, ..note.sanitized() });
        }
    }

    fn apply(&mut self, wish: ClientCommand, by: &str) {
        match wish {
            ClientCommand::Add { text, colour, x, y } => {
                self.add(StickyNote { id: 0, text, colour, x, y, by: by.to_owned() })
            }
            ClientCommand::Move { id, x, y } => self.change(id, |note| (note.x, note.y) = (x, y)),
            ClientCommand::Write { id, text } => self.change(id, |note| note.text = text),
            ClientCommand::Remove { id } => self.notes.retain(|note| note.id != id),
        }
    }

    fn change(&mut self, id: u64, how: impl FnOnce(&mut StickyNote)) {
        if let Some(note) = self.notes.iter_mut().find(|note| note.id == id) {
            how(note);
            *note = note.clone().sanitized();
        }
    }
}

/// The board, and who is told that it changed.
struct Board {
    state: Mutex<BoardState>,
    changed: watch::Sender<u64>,
}

impl Board {
    fn new() -> Self {
        let board = Self { state: Mutex::default(), changed: watch::Sender::new(0) };
        let first = [
            (
                "This board is a web application.\nIt runs behind the gateway, and only your session leads to it.",
                "yellow",
                60,
                90,
            ),
            (
                "Open it in a second browser as somebody else: notes move for both.",
                "green",
                390,
                150,
            ),
            ("Drag me.", "blue", 700, 80),
            ("Save the board as a file, and load it again.", "pink", 560, 480),
        ];
        for (text, colour, x, y) in first {
            board.state().add(StickyNote {
                id: 0,
                text: text.to_owned(),
                colour: colour.to_owned(),
                x,
                y,
                by: "Portcullis".to_owned(),
            });
        }
        board
    }

    fn state(&self) -> MutexGuard<'_, BoardState> {
        lock(&self.state)
    }

    fn notify_changed(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn to_json(&self) -> String {
        let inside = self.state();
        let here: Vec<&String> = inside.present.iter().map(|(_, who)| who).collect();
        json!({"notes": inside.notes, "here": here}).to_string()
    }
}

/// A page that is open; gone from the board when dropped.
struct Presence<'a> {
    board: &'a Board,
    id: u64,
}

impl<'a> Presence<'a> {
    fn enter(board: &'a Board, who: &str) -> Self {
        let id = {
            let mut inside = board.state();
            let number = inside.next_id();
            inside.present.push((number, who.to_owned()));
            number
        };
        board.notify_changed();
        Self { board, id }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.board.state().present.retain(|(number, _)| *number != self.id);
        self.board.notify_changed();
    }
}

/// A board that runs, until dropped.
pub struct Running {
    /// Where it listens.
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
    let told =
        |e: std::io::Error| Failure::new(format!("cannot start the demo's web application: {e}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(told)?;
    let address = listener.local_addr().map_err(told)?;
    let task = tokio::spawn(serve(listener, Arc::new(Board::new()))).abort_handle();
    Ok(Running { address, task })
}

async fn serve(listener: TcpListener, board: Arc<Board>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // They end with the server.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let board = Arc::clone(&board);
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let board = Arc::clone(&board);
                async move { Ok::<_, Infallible>(route(board, request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            let http = http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            // A connection that breaks is its client's business.
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

/// What the gateway says of the user.
fn identity_json(headers: &HeaderMap) -> serde_json::Value {
    let said = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let signed = headers.contains_key("x-portcullis-assertion");
    json!({"user": said("x-forwarded-user"), "name": said("x-forwarded-name"), "groups": said("x-forwarded-groups"), "signed": signed})
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
        let mut inside = board.state();
        inside.notes.clear();
        file.notes.into_iter().for_each(|note| inside.add(note));
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

/// Tells a page what the board is like, whenever it changed, and does what it wishes.
async fn serve_page(board: &Board, upgraded: Upgraded, who: &str) {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX));
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
    let (mut sink, mut stream) = socket.split();
    let mut changed = board.changed.subscribe();
    let _visit = Presence::enter(board, who);
    changed.mark_changed();
    loop {
        tokio::select! {
            told = changed.changed() => {
                if told.is_err() || sink.send(Message::text(board.to_json())).await.is_err() {
                    return;
                }
            }
            said = stream.next() => {
                let Some(Ok(message)) = said else { return };
                if let Ok(wish) = message.to_text().map_or(Err(()), |text| serde_json::from_str::<ClientCommand>(text).map_err(drop)) {
                    board.state().apply(wish, who);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_kept_within_bounds() {
        let board = Board::new();
        let mut inside = board.state();
        let wish = |text: &str| ClientCommand::Add {
            text: text.to_owned(),
            colour: "<b>".into(),
            x: 9000,
            y: 1,
        };
        inside.apply(wish(&format!("a\u{7}b\n{}", "x".repeat(1000))), "Ada");
        let note = inside.notes.last().unwrap().clone();
        assert_eq!(
            (note.text.chars().count(), note.colour.as_str(), note.x, note.by.as_str()),
            (TEXT_MAX, "yellow", 1000, "Ada")
        );
        assert!(note.text.starts_with("ab\nx"));
        inside.apply(ClientCommand::Move { id: note.id, x: 5, y: 6 }, "Sam");
        inside.apply(ClientCommand::Write { id: note.id, text: "new".into() }, "Sam");
        let note = inside.notes.last().unwrap().clone();
        assert_eq!((note.text.as_str(), note.x, note.y, note.by.as_str()), ("new", 5, 6, "Ada"));
        inside.apply(ClientCommand::Remove { id: note.id }, "Sam");
        assert!(!inside.notes.iter().any(|n| n.id == note.id));
        (0..500).for_each(|_| inside.apply(wish("x"), "Ada"));
        assert_eq!(inside.notes.len(), NOTES_MAX);
    }

    #[test]
    fn who_is_here_goes_when_the_page_does() {
        let board = Board::new();
        let visit = Presence::enter(&board, "Ada");
        assert!(board.to_json().contains("\"here\":[\"Ada\"]"));
        drop(visit);
        assert!(board.to_json().contains("\"here\":[]"));
    }
}
