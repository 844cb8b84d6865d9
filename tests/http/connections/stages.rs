//! Connections without a complete TLS handshake: they delay nobody.

use crate::support::app::TestApp;
use crate::support::db::{Backend, Db};
use crate::support::http2_frames::{RawHttp2, TIMEOUT, connect_from};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// More than there are places for, of one client and in all.
const MANY: usize = 1500;

/// A gateway that gives a handshake all the time of the test.
async fn patient_gateway() -> TestApp {
    TestApp::with(Db::new(Backend::Sqlite), |_, limits| {
        limits.handshake_timeout = Duration::from_secs(3600);
    })
    .await
}

/// Many connections of one client, each of which sends `start` and then nothing.
async fn many(app: &TestApp, start: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..MANY {
        let mut tcp = connect_from(2, app.port).await.unwrap();
        // It may be closed again already.
        drop(tcp.write_all(start).await);
        held.push(tcp);
    }
    held
}

/// A TLS ClientHello.
fn client_hello(app: &TestApp) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::clone(&app.tls), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

async fn expect_others_are_served(app: &TestApp, what: &str) {
    let asked = async {
        let mut other = RawHttp2::connect(app, 3, "localhost").await.unwrap();
        other.get(1, "/api/health").await
    };
    let answered = tokio::time::timeout(TIMEOUT, asked).await;
    assert!(answered.unwrap_or_else(|_| panic!("{what}: others wait")), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_delay_nobody() {
    let app = patient_gateway().await;
    let hello = client_hello(&app);
    for (what, start) in [
        ("nothing", &[][..]),
        ("a byte", &hello[..1]),
        ("half a ClientHello", &hello[..hello.len() / 2]),
        ("a ClientHello", &hello),
    ] {
        let held = many(&app, start).await;
        expect_others_are_served(&app, what).await;
        drop(held);
    }
    let page = app.anonymous().get("/metrics").await.body;
    for stage in ["arriving", "handshaking"] {
        let closed = format!(
            "portcullis_connections_closed_total{{stage=\"{stage}\",reason=\"client_limit\"}}"
        );
        assert!(page.contains(&closed), "{stage}: {page}");
    }
}
