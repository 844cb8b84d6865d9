//! Open connections of several clients: whose are closed when there are too many.

use crate::http::stream::{connect, launch, ticket};
use crate::support::app::TestApp;
use crate::support::db::{Backend, Db};
use crate::support::http2_frames::{RawHttp2, TIMEOUT, tls_from};
use crate::support::wait::eventually;
use futures_util::{SinkExt as _, StreamExt as _};
use portcullis::http::server_limits::ServerLimits;
use portcullis::http::settings::Settings;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::tungstenite::Message;

/// A gateway with 16 connections, 6 of each address.
async fn small_gateway(change: impl FnOnce(&mut Settings, &mut ServerLimits)) -> TestApp {
    TestApp::with(Db::new(Backend::Sqlite), |settings, limits| {
        (limits.connections, limits.connections_per_address) = (16, 6);
        change(settings, limits);
    })
    .await
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn open(app: &TestApp, last: u8) -> RawHttp2 {
    in_time("a connection", RawHttp2::connect(app, last, "localhost")).await.unwrap()
}

/// The value of a counter or gauge.
async fn metric(app: &TestApp, series: &str) -> u64 {
    let page = app.anonymous().get("/metrics").await.body;
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_take_the_connections_of_others() {
    let app = small_gateway(|_, limits| limits.connections_per_address = 16).await;
    let mut taken = Vec::new();
    for _ in 0..64 {
        // What is closed again does not matter here.
        if let Ok(one) = in_time("one", RawHttp2::connect(&app, 2, "localhost")).await {
            taken.push(one);
        }
    }
    let mut other = open(&app, 3).await;
    assert!(in_time("its request", other.get(1, "/api/health")).await);
    let closed = "portcullis_connections_closed_total{stage=\"open\",reason=\"full\"}";
    assert!(metric(&app, closed).await >= 48);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_never_end_do_not_keep_others_out() {
    let app = small_gateway(|settings, _| settings.body_timeout = TIMEOUT * 60).await;
    let mut taken = Vec::new();
    // Of four addresses, each connection waits for the body of a request.
    for n in 0..24 {
        let mut one = open(&app, 2 + n % 4).await;
        let head = one.head("POST", "/api/auth/login");
        drop(one.send(1, 4, 1, &head).await);
        taken.push(one);
    }
    let mut other = open(&app, 9).await;
    assert!(in_time("its request", other.get(1, "/api/health")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_idle_connection_of_a_full_address_is_closed() {
    let app = small_gateway(|_, _| ()).await;
    let mut first = in_time("HTTP/1.1", tls_from(&app, 2, "localhost", b"http/1.1")).await.unwrap();
    let mut idle = open(&app, 2).await;
    let mut used = open(&app, 2).await;
    assert!(used.get(1, "/api/health").await && idle.get(1, "/api/health").await);
    assert!(used.get(3, "/api/health").await);
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(open(&app, 2).await);
        assert!(others.last_mut().unwrap().get(1, "/api/health").await);
    }
    let _seventh = open(&app, 2).await;
    let read = in_time("the first is closed", first.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
    let _eighth = open(&app, 2).await;
    idle.until_closed("the next is closed").await;
    assert!(used.get(5, "/api/health").await, "it was used later");
    assert!(open(&app, 3).await.get(1, "/api/health").await, "another address");
    let closed = "portcullis_connections_closed_total{stage=\"open\",reason=\"client_limit\"}";
    assert_eq!(metric(&app, closed).await, 2);
    drop((others, used, idle));
    eventually("their slots are free", async || {
        metric(&app, "portcullis_connections{stage=\"open\"}").await <= 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_not_closed_for_other_connections() {
    let app = small_gateway(|_, _| ()).await;
    let member = app.signed_in("member").await;
    let mut events = member.open("/api/events").await;
    assert_eq!(events.status().as_u16(), 200);
    let session = launch(&member).await;
    let url = ticket(&member, &session).await;
    let mut socket = connect(&app, &url, &[("origin", &app.base)]).await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..20 {
        // From the same address as the streams.
        taken.push(open(&app, 1).await);
    }
    socket.send(Message::Ping(bytes::Bytes::from_static(b"here"))).await.unwrap();
    let answered = async {
        while let Some(Ok(message)) = socket.next().await {
            if matches!(&message, Message::Pong(data) if &data[..] == b"here") {
                return true;
            }
        }
        false
    };
    assert!(in_time("the WebSocket answers", answered).await);
    assert_eq!(member.post("/api/workspaces/ws-single/launch", json!({})).await.status, 200);
    let got_event = async {
        while let Some(part) = events.chunk().await.unwrap() {
            if String::from_utf8_lossy(&part).contains("session") {
                return true;
            }
        }
        false
    };
    assert!(in_time("the event stream goes on", got_event).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_behind_a_trusted_proxy_is_not_one_person() {
    let app = small_gateway(|settings, _| {
        settings.trusted_proxies = vec!["127.0.0.2/32".parse().unwrap()]
    })
    .await;
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(open(&app, 2).await);
    }
    for one in &mut all {
        assert!(in_time("each is served", one.get(1, "/api/health")).await);
    }
}
