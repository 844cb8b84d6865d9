//! Bytes in both directions: complete, in order, with backpressure, and counted.

use super::harness::{BrowserMessage, Harness, PIPE_CAPACITY, is_closed, read};
use bytes::Bytes;
use portcullis::viewer::Timeouts;
use portcullis::viewer::browser::BrowserEvent;
use portcullis::viewer::stream_end::StreamEnd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Bytes without repetition.
fn random_bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn everything_arrives_in_order_both_ways_at_once() {
    let (mut harness, desktop) = Harness::established().await;
    let (down, up) = (random_bytes(3_000_001), random_bytes(1_000_003));
    let (mut desktop_reads, mut desktop_writes) = tokio::io::split(desktop);

    let sent = down.clone();
    let desktop_writes = tokio::spawn(async move {
        desktop_writes.write_all(&sent).await.unwrap();
        desktop_writes
    });
    let expected = up.clone();
    let desktop_reads = tokio::spawn(async move {
        let mut got = vec![0; expected.len()];
        desktop_reads.read_exact(&mut got).await.unwrap();
        assert!(got == expected, "what the browser sent arrives");
        desktop_reads
    });
    let browser_input = harness.browser.input.clone();
    let browser_writes = tokio::spawn(async move {
        for piece in up.chunks(1234) {
            browser_input
                .send(Ok(BrowserEvent::Bytes(Bytes::copy_from_slice(piece))))
                .await
                .unwrap();
        }
    });
    let got = harness.browser.read(down.len()).await;
    assert!(got == down, "what the desktop sent arrives");
    browser_writes.await.unwrap();
    let _ends = (desktop_writes.await.unwrap(), desktop_reads.await.unwrap());

    harness.browser.input.send(Err(StreamEnd::BrowserClosed)).await.unwrap();
    let meters = Arc::clone(&harness.meters);
    assert_eq!(harness.end().await.0.reason_code(), "browser_closed");
    assert_eq!(
        (meters.up.load(Ordering::Relaxed), meters.down.load(Ordering::Relaxed)),
        (1_000_003, 3_000_001)
    );
}

#[tokio::test]
async fn a_browser_that_stops_reading_stops_the_desktop() {
    let (mut harness, mut desktop) = Harness::established().await;
    let mut accepted = 0;
    while timeout(Duration::from_millis(300), desktop.write_all(&[1; 1024])).await.is_ok() {
        accepted += 1024;
    }
    // The pipe, two chunks in the sink, one in flight.
    assert!(
        accepted <= PIPE_CAPACITY + 4 * 32 * 1024,
        "{accepted} bytes were taken from the desktop"
    );

    harness.browser.send(b"input").await;
    assert_eq!(read(&mut desktop, 5).await, b"input", "input is not queued behind output");

    assert_eq!(harness.browser.read(accepted).await, vec![1; accepted], "and nothing was lost");
}

#[tokio::test]
async fn a_desktop_that_accepts_no_input_does_not_stop_its_output() {
    let (mut harness, mut desktop) = Harness::established().await;
    while timeout(Duration::from_millis(300), harness.browser.send(&[2; 4096])).await.is_ok() {}
    desktop.write_all(b"output").await.unwrap();
    assert_eq!(harness.browser.read(6).await, b"output");
}

#[tokio::test]
async fn a_desktop_that_accepts_no_input_for_too_long_ends_the_stream() {
    let (harness, desktop) = Harness::established_with(Timeouts {
        desktop_write: Duration::from_secs(3),
        ..Timeouts::default()
    })
    .await;
    while timeout(Duration::from_millis(100), harness.browser.send(&[2; 4096])).await.is_ok() {}
    let (end, _) = harness.end().await;
    assert_eq!((end.close_frame().0, end.reason_code()), (4002, "desktop_stalled"));
    drop(desktop);
}

#[tokio::test]
async fn output_before_a_disconnect_of_the_desktop_arrives() {
    let (mut harness, mut desktop) = Harness::established().await;
    desktop.write_all(b"the last words").await.unwrap();
    drop(desktop);
    assert_eq!(harness.browser.read(14).await, b"the last words");
    let (end, _) = harness.end().await;
    assert_eq!((end.close_frame(), end.reason_code()), ((4002, "retry".into()), "desktop_gone"));
}

#[tokio::test]
async fn round_trips_are_measured() {
    let (mut harness, _desktop) = Harness::established_with(Timeouts {
        ping_interval: Duration::from_millis(20),
        ..Timeouts::default()
    })
    .await;
    for _ in 0..3 {
        let Some(BrowserMessage::Ping(payload)) = harness.browser.sent.recv().await else {
            panic!("a ping is due")
        };
        harness.browser.input.send(Ok(BrowserEvent::Pong(payload))).await.unwrap();
    }
    let Some(BrowserMessage::Ping(_)) = harness.browser.sent.recv().await else {
        panic!("another ping is due")
    };
    let rtt = harness.meters.rtt().expect("measured");
    assert!(rtt > Duration::ZERO && rtt < Duration::from_secs(60), "{rtt:?}");
}

#[tokio::test]
async fn a_browser_that_answers_no_ping_is_disconnected() {
    let timeouts = Timeouts {
        ping_interval: Duration::from_millis(50),
        pong: Duration::from_millis(300),
        ..Timeouts::default()
    };
    let (harness, mut desktop) = Harness::established_with(timeouts).await;
    // It still sends, as a half-open connection can.
    harness.browser.send(b"x").await;
    let (end, _) = harness.end().await;
    assert_eq!((end.close_frame().0, end.reason_code()), (1001, "browser_silent"));
    assert!(is_closed(&mut desktop).await);
}

#[tokio::test]
async fn a_browser_that_reads_nothing_is_disconnected_although_the_ping_cannot_be_sent() {
    let timeouts = Timeouts {
        ping_interval: Duration::from_millis(500),
        pong: Duration::from_millis(500),
        ..Timeouts::default()
    };
    let (harness, mut desktop) = Harness::established_with(timeouts).await;
    while timeout(Duration::from_secs(1), desktop.write_all(&[1; 4096]))
        .await
        .is_ok_and(|w| w.is_ok())
    {}
    let (end, _) = harness.end().await;
    assert_eq!(end.reason_code(), "browser_silent");
}

#[tokio::test]
async fn pings_of_the_browser_are_answered() {
    let (mut harness, _desktop) = Harness::established().await;
    harness.browser.input.send(Ok(BrowserEvent::Ping("are you there".into()))).await.unwrap();
    assert_eq!(harness.browser.receive().await, Some(BrowserMessage::Pong("are you there".into())));
}

#[tokio::test]
async fn invalid_input_of_the_browser_ends_the_stream() {
    for (end, code) in [
        (StreamEnd::TextFrame, 1003),
        (StreamEnd::FrameTooBig, 1009),
        (StreamEnd::BadFrame, 1002),
        (StreamEnd::BrowserDisconnected, 1000),
    ] {
        let (harness, mut desktop) = Harness::established().await;
        harness.browser.input.send(Err(end)).await.unwrap();
        assert_eq!(harness.end().await.0.close_frame().0, code);
        assert!(is_closed(&mut desktop).await);
    }
}
