//! Browsers that read nothing: their responses are reset, after a timeout or at the end of the
//! session, without effect on other streams.

use super::AppsGateway;
use crate::support::wait::eventually;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Longer than any wait on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longer than any test, so that this timeout never ends a stream.
const NO_TIMEOUT: Duration = Duration::from_secs(3600);

async fn gateway_with_stall(stall: Duration) -> AppsGateway {
    AppsGateway::with(|_, limits| limits.write_stall_timeout = stall).await
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, async || condition()).await;
}

impl AppsGateway {
    /// Waits until endless responses make no progress: all buffers on the path are full.
    async fn until_full(&self) {
        let (mut before, mut same) = (0, 0);
        until("the buffers are full", || {
            let now = self.application.written();
            same = if now > 0 && now == before { same + 1 } else { 0 };
            before = now;
            same > 25
        })
        .await;
    }

    async fn until_broken(&self, many: u64) {
        until("the application's connection has ended", || self.application.broken() >= many).await;
    }

    /// The recorded outcome of a session's endless response.
    async fn recorded_end(&self, session: &str) -> String {
        let admin = self.app.browser("admin").await;
        eventually("the request is in the log", async || {
            let requests = admin.get(&format!("/api/sessions/{session}/requests")).await.json();
            let mut requests = requests["requests"].as_array().unwrap().iter();
            let endless = requests.find(|request| request["path"] == "/endless")?;
            Some(endless["ended"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// An HTTP/1.1 connection on which an endless response has started.
    async fn start_endless(&self, session: &str, cookie: &str) -> TlsStream<TcpStream> {
        let host = Self::host(session);
        let mut stream = self.connect(&host, &[b"http/1.1"]).await;
        stream
            .write_all(
                format!("GET /endless HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n")
                    .as_bytes(),
            )
            .await
            .unwrap();
        let mut start = [0; 15];
        tokio::time::timeout(TIMEOUT, stream.read_exact(&mut start))
            .await
            .expect("a response in time")
            .unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        stream
    }

    async fn http2(&self, session: &str) -> SendRequest<Empty<Bytes>> {
        let stream = self.connect(&Self::host(session), &[b"h2"]).await;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn ask(
        &self,
        sender: &mut SendRequest<Empty<Bytes>>,
        (session, cookie): (&str, &str),
        path: &str,
    ) -> Response<Incoming> {
        let request =
            Request::get(format!("https://{}{path}", Self::host(session))).header("cookie", cookie);
        let asked = sender.send_request(request.body(Empty::new()).unwrap());
        tokio::time::timeout(TIMEOUT, asked).await.expect("a response in time").unwrap()
    }
}

/// Waits until the connection is reset, without reading from it.
async fn until_reset(stream: &TlsStream<TcpStream>) {
    until("the connection is reset", || stream.get_ref().0.take_error().unwrap().is_some()).await;
}

/// Reads a response, which must end with an error.
async fn expect_broken_off(answer: Response<Incoming>) {
    let mut body = answer.into_body();
    let rest =
        async { while body.frame().await.expect("an endless response has no end").is_ok() {} };
    tokio::time::timeout(TIMEOUT, rest).await.expect("it is reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_reads_nothing_is_reset() {
    let gateway = gateway_with_stall(Duration::from_secs(1)).await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let cookie = gateway.enter(&member, &session).await;
    let stream = gateway.start_endless(&session, &cookie).await;
    gateway.until_broken(1).await;
    until_reset(&stream).await;
    assert_eq!(gateway.recorded_end(&session).await, "client_gone");
    let next = gateway.at(&session).header("cookie", &cookie).get("/").await;
    assert_eq!((next.status, next.body.as_str()), (200, "application"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_http2_stream_is_reset_alone() {
    let gateway = gateway_with_stall(Duration::from_secs(1)).await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let cookie = gateway.enter(&member, &session).await;
    let mut sender = gateway.http2(&session).await;
    let unread = gateway.ask(&mut sender, (&session, &cookie), "/endless").await;
    gateway.until_broken(1).await;
    let beside = gateway.ask(&mut sender, (&session, &cookie), "/beside").await;
    assert_eq!(beside.status(), 200);
    assert_eq!(beside.into_body().collect().await.unwrap().to_bytes(), "application");
    expect_broken_off(unread).await;
    assert_eq!(gateway.recorded_end(&session).await, "client_gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_browser_that_reads_nothing_is_reset() {
    let gateway = gateway_with_stall(NO_TIMEOUT).await;
    let member = gateway.app.browser("member").await;
    let session = gateway.launch(&member).await;
    let cookie = gateway.enter(&member, &session).await;
    let mut stream = gateway.start_endless(&session, &cookie).await;
    gateway.until_full().await;
    let began = Instant::now();
    member.post(&format!("/api/sessions/{session}/disconnect"), json!({})).await;
    gateway.until_broken(1).await;
    let application = began.elapsed();
    until_reset(&stream).await;
    println!(
        "cut to the end of the application's connection {application:?}, of the browser's {:?}",
        began.elapsed()
    );
    // It may read its own buffers, which do not contain the end of the response.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut rest))
        .await
        .expect("the connection has ended");
    assert!(ended.is_err() && !rest.ends_with(b"0\r\n\r\n"), "{ended:?}");
    assert_eq!(gateway.recorded_end(&session).await, "cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_keeps_other_applications_of_the_connection() {
    let gateway = gateway_with_stall(NO_TIMEOUT).await;
    let (member, other) = (gateway.app.browser("member").await, gateway.app.browser("other").await);
    let (mine, theirs) = (gateway.launch(&member).await, gateway.launch(&other).await);
    let (my_cookie, their_cookie) =
        (gateway.enter(&member, &mine).await, gateway.enter(&other, &theirs).await);
    // One connection for both: their names are in one certificate.
    let mut sender = gateway.http2(&mine).await;
    let unread = gateway.ask(&mut sender, (&mine, &my_cookie), "/endless").await;
    let beside = gateway.ask(&mut sender, (&theirs, &their_cookie), "/endless").await;
    let mut beside = beside.into_body();
    assert!(beside.frame().await.unwrap().is_ok());
    member.post(&format!("/api/sessions/{mine}/disconnect"), json!({})).await;
    gateway.until_broken(1).await;
    expect_broken_off(unread).await;
    // The other response continues, beyond what was buffered by then.
    let mut got = 0;
    let more = async {
        while got < 16 << 20 {
            got += beside
                .frame()
                .await
                .expect("it continues")
                .unwrap()
                .data_ref()
                .map_or(0, Bytes::len);
        }
    };
    tokio::time::timeout(TIMEOUT, more).await.expect("it continues");
    assert_eq!(gateway.ask(&mut sender, (&theirs, &their_cookie), "/").await.status(), 200);
    assert_eq!(
        gateway.ask(&mut sender, (&mine, &my_cookie), "/").await.status(),
        410,
        "the reason of the end"
    );
    assert_eq!(gateway.application.broken(), 1);
}
