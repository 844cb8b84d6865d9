//! HTTP/2 connections: their limits, and how long they are kept.

use crate::support::app::{APPS_DOMAIN, TestApp};
use crate::support::db::{Backend, Db};
use crate::support::http2_frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, RawHttp2,
    SETTINGS, TIMEOUT, field, string, tls_from,
};
use crate::support::wait::eventually;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// The gateway's own name, and one of an application.
fn names() -> [String; 2] {
    ["localhost".to_owned(), format!("{}.{APPS_DOMAIN}", uuid::Uuid::new_v4())]
}

fn setting(settings: &Frame, id: u8) -> Option<u32> {
    let found = settings.payload.chunks_exact(6).find(|s| s[..2] == [0, id])?;
    Some(u32::from_be_bytes(found[2..].try_into().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn both_fronts_announce_their_limits() {
    let app = TestApp::sqlite().await;
    for name in names() {
        let mut raw = RawHttp2::connect(&app, 2, &name).await.unwrap();
        let settings = raw.until("the settings", |f| f.kind == SETTINGS).await;
        // MAX_CONCURRENT_STREAMS and MAX_HEADER_LIST_SIZE (RFC 9113 section 6.5.2).
        assert_eq!(setting(&settings, 3), Some(128), "{name}: {settings:?}");
        assert!(setting(&settings, 6).is_some_and(|n| n <= 768 * 1024), "{name}: {settings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_limited_per_connection() {
    let app = TestApp::sqlite().await;
    for name in names() {
        let mut raw = RawHttp2::connect(&app, 2, &name).await.unwrap();
        // Requests whose bodies never end.
        let head = raw.head("POST", "/api/auth/login");
        for n in 0..129 {
            raw.send(HEADERS, END_HEADERS, 2 * n + 1, &head).await.unwrap();
        }
        let refused = raw.until("a refusal", |f| f.kind == RST_STREAM && f.stream == 257).await;
        // REFUSED_STREAM
        assert_eq!(refused.payload, [0, 0, 0, 7], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_block_must_be_complete_in_time() {
    let app = TestApp::with(Db::new(Backend::Sqlite), |_, limits| {
        limits.head_timeout = Duration::from_millis(500);
    })
    .await;
    for name in names() {
        let mut raw = RawHttp2::connect(&app, 2, &name).await.unwrap();
        // Acknowledges the settings: within a header block nothing else may be sent.
        raw.get(1, "/").await;
        let head = raw.head("GET", "/");
        raw.send(HEADERS, END_STREAM, 3, &head).await.unwrap();
        raw.send(CONTINUATION, 0, 3, &field("a", "b")).await.unwrap();
        let frames = raw.until_closed(&name).await;
        // It was not for an error in what was sent.
        assert!(frames.iter().all(|frame| frame.kind != GOAWAY), "{name}: {frames:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_header_blocks_are_limited_per_address() {
    let app = TestApp::with(Db::new(Backend::Sqlite), |_, limits| {
        limits.head_timeout = Duration::from_secs(3600);
    })
    .await;
    let mut all = Vec::new();
    for _ in 0..33 {
        let mut raw = RawHttp2::connect(&app, 2, "localhost").await.unwrap();
        assert!(raw.get(1, "/api/health").await);
        let head = raw.head("GET", "/");
        raw.send(HEADERS, END_STREAM, 3, &head).await.unwrap();
        all.push(raw);
    }
    // Which one comes last to its worker is not known.
    let closed = all.iter_mut().map(|raw| Box::pin(raw.until_closed("one of them")));
    let (frames, ..) = futures_util::future::select_all(closed).await;
    assert!(frames.iter().all(|frame| frame.kind != GOAWAY), "{frames:?}");
    let mut other = RawHttp2::connect(&app, 3, "localhost").await.unwrap();
    let head = other.head("GET", "/api/health");
    other.send(HEADERS, END_STREAM, 1, &head).await.unwrap();
    other.send(CONTINUATION, END_HEADERS, 1, &field("a", "b")).await.unwrap();
    other.until("an answer at another address", |frame| frame.kind == HEADERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_of_requests_in_progress_are_limited_together() {
    let app = TestApp::with(Db::new(Backend::Sqlite), |settings, _| {
        settings.body_timeout = Duration::from_secs(3600);
    })
    .await;
    let mut raw = RawHttp2::connect(&app, 2, "localhost").await.unwrap();
    // A field of the dynamic table (index 62), often: 60 KB of fields in a few hundred bytes.
    let mut first = raw.head("POST", "/api/auth/login");
    first.extend([0x40, 1, b'a']);
    first.extend(string(&[b'v'; 2000]));
    raw.send(HEADERS, END_HEADERS, 1, &first).await.unwrap();
    let mut again = raw.head("POST", "/api/auth/login");
    again.extend([0xbe; 30]);
    for n in 1..128 {
        raw.send(HEADERS, END_HEADERS, 2 * n + 1, &again).await.unwrap();
    }
    // The requests wait for their bodies: an answer is a refusal.
    for _ in 0..64 {
        let refused = raw.until("a refusal", |f| f.kind == HEADERS).await;
        assert!(refused.stream > 1, "one small head is accepted");
    }
    assert!(RawHttp2::connect(&app, 3, "localhost").await.unwrap().get(1, "/api/health").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_heads_are_refused_by_their_size() {
    let app = TestApp::sqlite().await;
    for name in names() {
        let mut raw = RawHttp2::connect(&app, 2, &name).await.unwrap();
        let mut first = raw.head("GET", "/");
        first.extend([0x40, 1, b'a', 1, b'b']);
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &first).await.unwrap();
        // 490,000 fields in 30 frames of 16 KiB.
        let bomb = raw.head("GET", "/");
        raw.send(HEADERS, END_STREAM, 3, &bomb).await.unwrap();
        for n in 0..30 {
            let flags = if n == 29 { END_HEADERS } else { 0 };
            if raw.send(CONTINUATION, flags, 3, &[0xbe; 16_384]).await.is_err() {
                break;
            }
        }
        let answers = |f: &Frame| matches!(f.kind, HEADERS | GOAWAY) && f.stream != 1;
        let answer = raw.until("a refusal", answers).await;
        // The library's own 431, which has no body.
        assert!(answer.kind == GOAWAY || answer.flags & END_STREAM != 0, "{name}: {answer:?}");
    }
    assert_eq!(app.anonymous().get("/api/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_request_are_closed() {
    let app = TestApp::with(Db::new(Backend::Sqlite), |_, limits| {
        limits.keep_alive = Duration::from_millis(500);
    })
    .await;
    for name in names() {
        // One has sent a request, one answers PINGs only, one has not sent its preface.
        let mut raw = RawHttp2::connect(&app, 2, &name).await.unwrap();
        let head = raw.head("GET", "/api/health");
        drop(raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &head).await);
        let mut quiet = RawHttp2::connect(&app, 2, &name).await.unwrap();
        let mut silent = tls_from(&app, 2, &name, b"h2").await.unwrap();
        for raw in [&mut raw, &mut quiet] {
            let frames = raw.until_closed(&name).await;
            // None was sent to one whose preface came too late.
            for frame in frames.iter().filter(|frame| frame.kind == GOAWAY) {
                assert_eq!(frame.payload[4..8], [0; 4], "{name}: NO_ERROR");
            }
        }
        let read = async { while silent.read_u8().await.is_ok() {} };
        tokio::time::timeout(TIMEOUT, read).await.expect("it is closed");
    }
    let page = app.anonymous().get("/metrics").await.body;
    let closed = "portcullis_connections_closed_total{stage=\"open\",reason=\"idle\"}";
    assert!(page.contains(closed), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_takes_no_requests_and_ends_with_its_streams() {
    let app = TestApp::with(Db::new(Backend::Sqlite), |_, limits| {
        limits.connection_age = Duration::from_millis(500);
    })
    .await;
    let member = app.signed_in("member").await;
    // On a busy machine a connection may be too old before its request has arrived.
    let mut raw = eventually("an event stream on a connection that grows old", async || {
        let mut raw = RawHttp2::connect(&app, 2, "localhost").await.ok()?;
        let mut head = raw.head("GET", "/api/events");
        head.extend(field("authorization", &format!("Bearer {}", member.token())));
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &head).await.ok()?;
        raw.find("the event stream", |f| f.kind == HEADERS && f.stream == 1).await?;
        // The second GOAWAY names the last stream (RFC 9113 section 6.8).
        raw.find("GOAWAY", |f| f.kind == GOAWAY && f.payload[..4] == [0, 0, 0, 1]).await?;
        Some(raw)
    })
    .await;
    // Event streams go on: this one gets an event later than the connection could be closed.
    eventually("events arrive", async || {
        let act = json!({});
        assert_eq!(member.post("/api/workspaces/ws-desk/launch", act).await.status, 200);
        let is_event = |f: &Frame| f.kind == DATA && f.stream == 1;
        raw.until("an event", is_event).await;
        assert_eq!(member.post("/api/workspaces/ws-desk/stop", json!({})).await.status, 200);
        raw.until("an event", is_event).await;
        let page = app.anonymous().get("/metrics").await.body;
        page.contains("portcullis_connections_closed_total{stage=\"open\",reason=\"age\"}")
    })
    .await;
    raw.send(RST_STREAM, 0, 1, &[0, 0, 0, 8]).await.unwrap();
    raw.until_closed("without streams").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_at_once_close_the_connection() {
    let app = TestApp::sqlite().await;
    for name in names() {
        let mut raw = RawHttp2::connect(&app, 2, &name).await.unwrap();
        let head = raw.head("POST", "/api/auth/login");
        for n in 0..20_000 {
            // The reset is a segment of its own, so that the request has reached its handler.
            let sent = raw.send(HEADERS, END_HEADERS, 2 * n + 1, &head).await;
            let sent = sent.and(raw.send(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]).await);
            if sent.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        raw.until_closed(&name).await;
    }
    assert_eq!(app.anonymous().get("/api/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_header_blocks_close_the_connection() {
    let app = TestApp::sqlite().await;
    for name in names() {
        let mut raw = RawHttp2::connect(&app, 2, &name).await.unwrap();
        let head = raw.head("GET", "/");
        raw.send(HEADERS, END_STREAM, 1, &head).await.unwrap();
        for part in [&[][..], &[0x00, 1, b'a', 1, b'b']].into_iter().cycle().take(100_000) {
            if raw.send(CONTINUATION, 0, 1, part).await.is_err() {
                break;
            }
        }
        raw.until_closed(&name).await;
    }
}
