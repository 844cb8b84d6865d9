//! Browsers that read nothing: what they hold is taken from them, after a while or at the end of
//! the session, and from their neighbours nothing.

use super::AppsGateway;
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

/// Nothing here takes this long, however busy the machine is.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longer than any test: what ends in one that waits so long was ended otherwise.
const NO_TIMEOUT: Duration = Duration::from_secs(3600);

async fn gateway_with_stall(stall: Duration) -> AppsGateway {
    AppsGateway::with(|_, limits| limits.write_stall_timeout = stall).await
}

/// Resolves once it is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

impl AppsGateway {
    /// Resolves once nobody takes anything more of endless answers: all buffers on the way are
    /// full.
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

    /// How a session's endless answer ended, once that is written down.
    async fn recorded_end(&self, session: &str) -> String {
        let admin = self.app.browser("admin").await;
        let wait = async {
            loop {
                let requests = admin.get(&format!("/api/sessions/{session}/requests")).await.json();
                let endless = requests["requests"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|request| request["path"] == "/endless");
                if let Some(endless) = endless {
                    return endless["ended"].as_str().unwrap().to_owned();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, wait).await.expect("the request is written down")
    }

    /// An HTTP/1.1 connection on which an endless answer has begun.
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
            .expect("an answer in time")
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
        tokio::time::timeout(TIMEOUT, asked).await.expect("an answer in time").unwrap()
    }
}

/// The connection is reset although nobody reads it.
async fn until_reset(stream: &TlsStream<TcpStream>) {
    until("the connection is reset", || stream.get_ref().0.take_error().unwrap().is_some()).await;
}

/// Reads an answer to its end, which is none.
async fn expect_broken_off(answer: Response<Incoming>) {
    let mut body = answer.into_body();
    let rest = async { while body.frame().await.expect("an endless answer has no end").is_ok() {} };
    tokio::time::timeout(TIMEOUT, rest).await.expect("it breaks off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_takes_nothing_loses_its_answer() {
    let house = gateway_with_stall(Duration::from_secs(1)).await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let cookie = house.enter(&member, &session).await;
    let stream = house.start_endless(&session, &cookie).await;
    house.until_broken(1).await;
    until_reset(&stream).await;
    assert_eq!(house.recorded_end(&session).await, "client_gone");
    let next = house.at(&session).header("cookie", &cookie).get("/").await;
    assert_eq!((next.status, next.body.as_str()), (200, "application"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_taken_ends_alone() {
    let house = gateway_with_stall(Duration::from_secs(1)).await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let cookie = house.enter(&member, &session).await;
    let mut sender = house.http2(&session).await;
    let unread = house.ask(&mut sender, (&session, &cookie), "/endless").await;
    house.until_broken(1).await;
    let beside = house.ask(&mut sender, (&session, &cookie), "/beside").await;
    assert_eq!(beside.status(), 200);
    assert_eq!(beside.into_body().collect().await.unwrap().to_bytes(), "application");
    expect_broken_off(unread).await;
    assert_eq!(house.recorded_end(&session).await, "client_gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_and_reads_nothing_is_reset() {
    let house = gateway_with_stall(NO_TIMEOUT).await;
    let member = house.app.browser("member").await;
    let session = house.launch(&member).await;
    let cookie = house.enter(&member, &session).await;
    let mut stream = house.start_endless(&session, &cookie).await;
    house.until_full().await;
    let began = Instant::now();
    member.post(&format!("/api/sessions/{session}/disconnect"), json!({})).await;
    house.until_broken(1).await;
    let application = began.elapsed();
    until_reset(&stream).await;
    println!(
        "cut to the end of the application's connection {application:?}, of the browser's {:?}",
        began.elapsed()
    );
    // What it has in its own buffers it may read; no end of the answer is among it.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut rest))
        .await
        .expect("the connection has ended");
    assert!(ended.is_err() && !rest.ends_with(b"0\r\n\r\n"), "{ended:?}");
    assert_eq!(house.recorded_end(&session).await, "cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_leaves_the_other_applications_of_a_connection_alone() {
    let house = gateway_with_stall(NO_TIMEOUT).await;
    let (member, other) = (house.app.browser("member").await, house.app.browser("other").await);
    let (mine, theirs) = (house.launch(&member).await, house.launch(&other).await);
    let (my_cookie, their_cookie) =
        (house.enter(&member, &mine).await, house.enter(&other, &theirs).await);
    // One browser connection to both: their names are of one certificate.
    let mut sender = house.http2(&mine).await;
    let unread = house.ask(&mut sender, (&mine, &my_cookie), "/endless").await;
    let beside = house.ask(&mut sender, (&theirs, &their_cookie), "/endless").await;
    let mut beside = beside.into_body();
    assert!(beside.frame().await.unwrap().is_ok());
    member.post(&format!("/api/sessions/{mine}/disconnect"), json!({})).await;
    house.until_broken(1).await;
    expect_broken_off(unread).await;
    // The other answer goes on, beyond what was on its way by then.
    let mut got = 0;
    let more = async {
        while got < 16 << 20 {
            got +=
                beside.frame().await.expect("it goes on").unwrap().data_ref().map_or(0, Bytes::len);
        }
    };
    tokio::time::timeout(TIMEOUT, more).await.expect("it goes on");
    assert_eq!(house.ask(&mut sender, (&theirs, &their_cookie), "/").await.status(), 200);
    assert_eq!(
        house.ask(&mut sender, (&mine, &my_cookie), "/").await.status(),
        410,
        "and says why the one has ended"
    );
    assert_eq!(house.application.broken(), 1);
}
