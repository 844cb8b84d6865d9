//! The control API over a plain in-memory stream: good calls, bad input, limits.

use futures_util::future::BoxFuture;
use portcullis::domain::host::DesktopLimit;
use portcullis::domain::secret::SecretString;
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{SessionId, UserId, WorkspaceId};
use portcullis::host::control::{
    BODY_MAX, Client, ClientError, ControlHandler, DesktopInfo, Health, Memory, Order, OrderTunnel,
    OrderWorkspace, PROTOCOL, Refusal, ServiceHealth, Started, serve, serve_within,
};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Keeps what it was asked.
#[derive(Default)]
struct FakeHandler {
    running: Mutex<Vec<(SessionId, UserId)>>,
    full: bool,
}

impl ControlHandler for FakeHandler {
    fn health(self: Arc<Self>) -> BoxFuture<'static, Health> {
        let desktops = self.running.lock().unwrap().len();
        let health = Health {
            protocol: PROTOCOL,
            version: "1".to_owned(),
            uptime_ms: 5,
            desktops,
            load: [0.5, 0.25, 0.0],
            memory: Memory { total: 2, available: 1 },
            kinds: vec![WorkspaceKind::Linux],
            services: vec![ServiceHealth { name: "crm".to_owned(), reachable: true }],
            limits: Some(vec![DesktopLimit::Memory]),
            service_kinds: vec![WorkspaceKind::Vnc],
            slots: None,
        };
        Box::pin(std::future::ready(health))
    }

    fn desktops(&self) -> Vec<DesktopInfo> {
        let workspace_id = WorkspaceId::parse("w").unwrap();
        let running = self.running.lock().unwrap();
        running
            .iter()
            .map(|&(session_id, user_id)| DesktopInfo {
                session_id,
                user_id,
                workspace_id: workspace_id.clone(),
                ready: true,
            })
            .collect()
    }

    fn changed(self: Arc<Self>, since: Option<u64>) -> BoxFuture<'static, u64> {
        Box::pin(async move { since.map_or(7, |n| n + 1) })
    }

    fn start(self: Arc<Self>, order: Order) -> BoxFuture<'static, Result<Started, Refusal>> {
        Box::pin(async move {
            if self.full {
                return Err(Refusal::Full("no place".to_owned()));
            }
            self.running.lock().unwrap().push((order.session_id, order.user_id));
            Ok(Started {
                public_key: "k".to_owned(),
                port: 5900,
                password: SecretString::new("secret42".to_owned()),
                certificate: None,
            })
        })
    }

    fn stop(self: Arc<Self>, session: SessionId) -> BoxFuture<'static, Result<(), Refusal>> {
        Box::pin(async move {
            self.running.lock().unwrap().retain(|(id, _)| *id != session);
            Ok(())
        })
    }
}

fn order() -> Order {
    Order {
        protocol: PROTOCOL,
        session_id: SessionId::new(),
        user_id: UserId::new(),
        user_name: "Mona".to_owned(),
        workspace: OrderWorkspace {
            id: WorkspaceId::parse("w").unwrap(),
            name: "W".to_owned(),
            kind: WorkspaceKind::Linux,
            network: false,
            service: None,
        },
        tunnel: OrderTunnel {
            preshared_key: SecretString::new("AAAA".to_owned()),
            host_address: "10.64.0.9".parse().unwrap(),
            gateway_address: "10.64.0.1".parse().unwrap(),
        },
        grace_seconds: 600,
    }
}

fn connection(service: FakeHandler) -> (DuplexStream, Arc<FakeHandler>) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let service = Arc::new(service);
    tokio::spawn(serve(far, service.clone()));
    (near, service)
}

#[tokio::test]
async fn asks_and_answers_on_one_connection() {
    let (stream, service) = connection(FakeHandler::default());
    let mut client = Client::new(stream).await.unwrap();
    assert_eq!(client.health().await.unwrap().memory.total, 2);
    assert_eq!(client.changed(None).await.unwrap(), 7);
    assert_eq!(client.changed(Some(8)).await.unwrap(), 9);
    let order = order();
    let started = client.start(&order).await.unwrap();
    assert_eq!((started.port, started.password.expose().as_str()), (5900, "secret42"));
    assert_eq!(client.desktops().await.unwrap()[0].session_id, order.session_id);
    client.stop(order.session_id).await.unwrap();
    client.stop(order.session_id).await.unwrap();
    assert!(service.running.lock().unwrap().is_empty());
    let shown = format!("{order:?} {started:?}");
    assert!(!shown.contains("secret42") && !shown.contains("AAAA"), "{shown}");
}

#[tokio::test]
async fn a_refusal_says_why() {
    let (stream, _) = connection(FakeHandler { full: true, ..FakeHandler::default() });
    let mut client = Client::new(stream).await.unwrap();
    let refused = client.start(&order()).await.unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused { status: 503, detail } if detail == "no place"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused() {
    let (stream, service) = connection(FakeHandler::default());
    let mut client = Client::new(stream).await.unwrap();
    let bad: [fn(&mut Order); 10] = [
        |o| o.protocol = PROTOCOL + 1,
        |o| o.workspace.kind = WorkspaceKind::Vnc,
        |o| o.workspace.kind = WorkspaceKind::Html5,
        |o| o.workspace.service = Some("crm".to_owned()),
        |o| o.user_name = "x".repeat(201),
        |o| o.grace_seconds = u64::MAX,
        |o| o.tunnel.host_address = o.tunnel.gateway_address,
        |o| o.tunnel.host_address = "::1".parse().unwrap(),
        |o| o.tunnel.host_address = "127.0.0.1".parse().unwrap(),
        |o| o.tunnel.gateway_address = "0.0.0.0".parse().unwrap(),
    ];
    for spoil in bad {
        let mut order = order();
        spoil(&mut order);
        let refused = client.start(&order).await.unwrap_err();
        assert!(
            matches!(refused, ClientError::Refused { status: 422, .. }),
            "{order:?}: {refused:?}"
        );
    }
    assert!(service.running.lock().unwrap().is_empty());
}

fn short_timeout_connection() -> DuplexStream {
    let (near, far) = tokio::io::duplex(4096);
    tokio::spawn(serve_within(
        far,
        Arc::new(FakeHandler::default()),
        std::time::Duration::from_millis(50),
    ));
    near
}

/// Sends raw bytes, closes that direction, and gives the status line of each answer.
async fn raw(request: &[u8]) -> (u16, String) {
    let (mut stream, _) = connection(FakeHandler::default());
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // Up to the end of the first answer's body, or of the connection.
    while let Ok(n @ 1..) = stream.read(&mut piece).await {
        answer.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&answer);
        if text
            .split_once("\r\n\r\n")
            .is_some_and(|(_, body)| body.ends_with('}') || body.ends_with(']'))
        {
            break;
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    (status, text)
}

fn post(body: &str) -> Vec<u8> {
    format!("POST /v1/desktops HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

#[tokio::test]
async fn bad_requests_get_the_status_they_deserve() {
    let whole = serde_json::to_string(&order()).unwrap();
    for (request, wanted) in [
        (post("{"), 400),
        (post(""), 400),
        (post("[]"), 422),
        (post("{}"), 422),
        (post(&whole.replace("600", "\"long\"")), 422),
        (post(&whole.replace("\"linux\"", "\"amiga\"")), 422),
        (post(&whole.replace("\"w\"", "\"../../etc\"")), 422),
        (post(&format!("{{\"x\":\"{}\"}}", "y".repeat(BODY_MAX))), 413),
        (b"GET /v1/nothing HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 404),
        (b"DELETE /v1/desktops/not-an-id HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 404),
        (b"PUT /v1/health HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 405),
        (b"PATCH /v1/desktops HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 405),
        (b"\x16\x03\x01 this is not HTTP\r\n\r\n".to_vec(), 400),
    ] {
        let (status, text) = raw(&request).await;
        assert_eq!(
            status,
            wanted,
            "{}\n{text}",
            String::from_utf8_lossy(&request[..request.len().min(300)])
        );
    }
}

#[tokio::test]
async fn an_error_never_repeats_the_key_it_was_sent() {
    let secret = "c2VjcmV0LXByZXNoYXJlZC1rZXk=";
    let mut body = serde_json::to_value(order()).unwrap();
    body["tunnel"]["preshared_key"] = serde_json::json!([secret]);
    let (status, text) = raw(&post(&body.to_string())).await;
    assert_eq!(status, 422);
    assert!(!text.contains(secret), "{text}");
}

#[tokio::test]
async fn a_caller_that_says_nothing_is_left() {
    for begun in [&b""[..], b"GET /v1/health HTTP/1.1\r\n"] {
        let mut stream = short_timeout_connection();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        let ended =
            tokio::time::timeout(std::time::Duration::from_secs(60), stream.read_to_end(&mut rest))
                .await;
        assert!(ended.is_ok(), "the connection is still open after {begun:?}");
    }
    let mut stream = short_timeout_connection();
    stream
        .write_all(b"POST /v1/desktops HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{")
        .await
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}
