//! Before the relay: dialling, both handshakes, and every way they fail. The browser receives
//! nothing until the desktop has accepted the gateway.

use super::harness::{
    CHALLENGE, FnDialer, Harness, INIT, PIPE_CAPACITY, authenticate_desktop, is_closed, read,
    server_init,
};
use crate::support::bytewise::Bytewise;
use futures_util::future::FutureExt;
use portcullis::protocol::rfb::RfbError;
use portcullis::viewer::browser::BrowserEvent;
use portcullis::viewer::stream_end::StreamEnd;
use portcullis::viewer::{Duplex, Timeouts};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

/// Time limit for tests that wait for it to expire.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(500);

/// Waits for the end of the stream, and asserts that the browser received nothing: close code,
/// reason code, and cause.
async fn end_of(harness: Harness) -> (u16, &'static str, String) {
    let (end, mut browser) = harness.end().await;
    assert_eq!(browser.receive().await, None, "the browser hears nothing");
    let (code, reason) = end.close_frame();
    (code, end.reason_code(), reason.into_owned())
}

fn expected(code: u16, reason_code: &'static str, reason: &str) -> (u16, &'static str, String) {
    (code, reason_code, reason.to_owned())
}

#[tokio::test]
async fn the_browser_is_greeted_after_the_desktop_has_accepted() {
    let mut harness = Harness::new();
    let mut desktop = harness.desktop().await;
    desktop.write_all(b"RFB 003.008\n").await.unwrap();
    read(&mut desktop, 12).await;
    desktop.write_all(&[1, 2]).await.unwrap();
    read(&mut desktop, 1).await;
    desktop.write_all(&CHALLENGE).await.unwrap();
    read(&mut desktop, 16).await;
    assert!(harness.browser.sent.try_recv().is_err(), "not before the verdict");
    desktop.write_all(&[0; 4]).await.unwrap();
    harness.browser.negotiate().await;
    harness.browser.send(&[0]).await;
    server_init(&mut desktop, 1).await;
    assert_eq!(
        harness.browser.read(INIT.len()).await,
        INIT,
        "whether to share the desktop is not the browser's to say"
    );
}

#[tokio::test]
async fn both_handshakes_work_byte_by_byte() {
    let (near, mut far) = tokio::io::duplex(PIPE_CAPACITY);
    let near = std::sync::Mutex::new(Some(near));
    let mut harness = Harness::with_dial(FnDialer(move || {
        let near = near.lock().unwrap().take().expect("one call");
        async { Ok(Box::new(Bytewise::new(near)) as Box<dyn Duplex>) }.boxed()
    }));
    authenticate_desktop(&mut far).await;
    assert_eq!(harness.browser.read(12).await, b"RFB 003.008\n");
    for byte in b"RFB 003.008\n\x01\x01" {
        harness.browser.send(&[*byte]).await;
    }
    assert_eq!(harness.browser.read(6).await, [1, 1, 0, 0, 0, 0]);
    server_init(&mut far, 1).await;
    assert_eq!(harness.browser.read(INIT.len()).await, INIT);
}

#[tokio::test]
async fn bytes_beyond_a_handshake_are_not_lost() {
    let mut harness = Harness::new();
    let mut desktop = harness.desktop().await;
    desktop.write_all(b"RFB 003.008\n").await.unwrap();
    read(&mut desktop, 12).await;
    desktop.write_all(&[1, 2]).await.unwrap();
    read(&mut desktop, 1).await;
    desktop.write_all(&CHALLENGE).await.unwrap();
    read(&mut desktop, 16).await;
    desktop.write_all(&[&[0; 4], &INIT[..], b"early"].concat()).await.unwrap();
    harness.browser.send(b"RFB 003.008\n\x01\x01keys").await;
    assert_eq!(harness.browser.read(12 + 2 + 4).await, b"RFB 003.008\n\x01\x01\0\0\0\0");
    assert_eq!(harness.browser.read(INIT.len()).await, INIT);
    assert_eq!(harness.browser.read(5).await, b"early");
    assert_eq!(read(&mut desktop, 5).await, b"\x01keys");
}

#[tokio::test]
async fn a_desktop_that_refuses_the_connection() {
    let harness = Harness::with_dial(FnDialer(|| {
        async { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) }.boxed()
    }));
    assert_eq!(
        end_of(harness).await,
        expected(4002, "desktop_unreachable", "desktop: The desktop does not take connections.")
    );
}

#[tokio::test]
async fn a_desktop_that_is_never_reached() {
    let timeouts = Timeouts { dial: HANDSHAKE_TIMEOUT, ..Timeouts::default() };
    let connections = tokio::sync::mpsc::unbounded_channel().1;
    let start = Instant::now();
    let harness = Harness::with(FnDialer(|| std::future::pending().boxed()), connections, timeouts);
    assert_eq!(
        end_of(harness).await,
        expected(4002, "desktop_unreachable", "host: The desktop's host cannot be reached.")
    );
    assert!(start.elapsed() >= HANDSHAKE_TIMEOUT);
}

#[tokio::test]
async fn a_desktop_that_hangs_in_the_handshake() {
    for said in [&b""[..], b"RFB 003", b"RFB 003.008\n", b"RFB 003.008\n\x02\x01"] {
        let start = Instant::now();
        let mut harness =
            Harness::with_limits(Timeouts { handshake: HANDSHAKE_TIMEOUT, ..Timeouts::default() });
        let mut desktop = harness.desktop().await;
        desktop.write_all(said).await.unwrap();
        assert_eq!(
            end_of(harness).await,
            expected(4002, "handshake_broken", "desktop: The desktop does not answer."),
            "{said:?}"
        );
        assert!(start.elapsed() >= HANDSHAKE_TIMEOUT);
        assert!(is_closed(&mut desktop).await);
    }
}

#[tokio::test]
async fn a_desktop_that_closes_anywhere_in_the_handshake() {
    let said = [&b"RFB 003.008\n"[..], &[1, 2], &CHALLENGE, &[0, 0, 0]].concat();
    for n in 0..=said.len() {
        let mut harness = Harness::new();
        let mut desktop = harness.desktop().await;
        desktop.write_all(&said[..n]).await.unwrap();
        drop(desktop);
        assert_eq!(
            end_of(harness).await,
            expected(
                4002,
                "rfb_closed",
                "desktop: The desktop does not answer as a desktop should."
            ),
            "after {n} bytes"
        );
    }
}

#[tokio::test]
async fn a_desktop_that_sends_invalid_values() {
    for said in
        [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0; 64], &[0xff; 4096], b"RFB 999.x"]
    {
        let mut harness = Harness::new();
        let mut desktop = harness.desktop().await;
        desktop.write_all(said).await.unwrap();
        assert_eq!(
            end_of(harness).await,
            expected(4002, "not_rfb", "desktop: The desktop does not answer as a desktop should.")
        );
    }
}

#[tokio::test]
async fn a_desktop_that_refuses_the_password() {
    let mut harness = Harness::new();
    let mut desktop = harness.desktop().await;
    desktop.write_all(b"RFB 003.008\n\x01\x02").await.unwrap();
    desktop.write_all(&CHALLENGE).await.unwrap();
    desktop.write_all(b"\0\0\0\x01\0\0\0\x15Authentication failed").await.unwrap();
    assert_eq!(end_of(harness).await, expected(4006, "rfb_denied", "workspace rfb_denied"));
}

#[tokio::test]
async fn a_desktop_that_asks_a_person_first_may_take_longer() {
    let mut harness =
        Harness::with_limits(Timeouts { handshake: HANDSHAKE_TIMEOUT, ..Timeouts::default() });
    let mut desktop = harness.desktop().await;
    desktop.write_all(b"RFB 003.008\n\x01\x02").await.unwrap();
    desktop.write_all(&CHALLENGE).await.unwrap();
    assert_eq!(read(&mut desktop, 12 + 1 + 16).await.len(), 29, "version, type, response");
    let ended = timeout(2 * HANDSHAKE_TIMEOUT, desktop.read_u8()).await;
    assert!(ended.is_err(), "the gateway waits: {ended:?}");
    desktop.write_all(&[0; 4]).await.unwrap();
    harness.browser.send(b"RFB 003.008\n\x01\x01").await;
    server_init(&mut desktop, 1).await;
}

#[tokio::test]
async fn a_desktop_that_refuses_for_another_reason_than_the_password() {
    let mut harness = Harness::new();
    let mut desktop = harness.desktop().await;
    desktop.write_all(b"RFB 003.008\n\x01\x02").await.unwrap();
    desktop.write_all(&CHALLENGE).await.unwrap();
    let words = b"Another connection is being asked about";
    desktop.write_all(b"\0\0\0\x01\0\0\0\x27").await.unwrap();
    desktop.write_all(words).await.unwrap();
    assert_eq!(
        end_of(harness).await,
        expected(4002, "rfb_refused", "desktop: The desktop refused the connection.")
    );
}

#[tokio::test]
async fn a_desktop_without_a_password_is_refused() {
    let mut harness = Harness::new();
    let mut desktop = harness.desktop().await;
    desktop.write_all(b"RFB 003.008\n\x01\x01").await.unwrap();
    assert_eq!(
        end_of(harness).await,
        expected(
            4002,
            "rfb_no_security",
            "desktop: The desktop asks for another proof than this workspace has."
        )
    );
}

#[tokio::test]
async fn a_desktop_that_floods_the_handshake() {
    let mut harness = Harness::new();
    let mut desktop = harness.desktop().await;
    let flood = tokio::spawn(async move {
        desktop.write_all(b"RFB 003.008\n\0\xff\xff\xff\xff").await?;
        loop {
            desktop.write_all(&[b'x'; 4096]).await?;
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    assert_eq!(
        end_of(harness).await,
        expected(4002, "rfb_refused", "desktop: The desktop refused the connection.")
    );
    assert!(flood.await.unwrap().is_err(), "its connection is closed");
}

#[tokio::test]
async fn a_browser_that_disconnects_while_the_desktop_is_dialled() {
    let harness = Harness::with_dial(FnDialer(|| std::future::pending().boxed()));
    harness.browser.input.send(Err(StreamEnd::BrowserClosed)).await.unwrap();
    assert_eq!(harness.end().await.0.reason_code(), "browser_closed");
}

#[tokio::test]
async fn a_browser_that_disconnects_during_the_desktops_handshake() {
    let mut harness = Harness::new();
    let mut desktop = harness.desktop().await;
    harness.browser.input.send(Err(StreamEnd::BrowserDisconnected)).await.unwrap();
    assert_eq!(harness.end().await.0.reason_code(), "browser_gone");
    assert!(is_closed(&mut desktop).await);
}

#[tokio::test]
async fn a_browser_that_sends_too_much_too_early() {
    let harness = Harness::with_dial(FnDialer(|| std::future::pending().boxed()));
    harness.browser.send(&[0; 4000]).await;
    harness.browser.send(&[0; 4000]).await;
    let (end, _) = harness.end().await;
    assert_eq!((end.close_frame().0, end.reason_code()), (1009, "frame_too_big"));
}

#[tokio::test]
async fn a_browser_with_an_invalid_handshake() {
    let mut harness = Harness::new();
    let mut desktop = harness.desktop().await;
    authenticate_desktop(&mut desktop).await;
    harness.browser.send(b"RFB 003.003\n").await;
    let (end, _) = harness.end().await;
    assert!(matches!(end, StreamEnd::BrowserHandshake(RfbError::Version { major: 3, minor: 3 })));
    assert_eq!(end.close_frame().0, 1002);
    assert!(is_closed(&mut desktop).await);
}

#[tokio::test]
async fn a_browser_that_never_answers() {
    let start = Instant::now();
    let mut harness =
        Harness::with_limits(Timeouts { handshake: Duration::from_secs(3), ..Timeouts::default() });
    let mut desktop = harness.desktop().await;
    authenticate_desktop(&mut desktop).await;
    harness.browser.input.send(Ok(BrowserEvent::Ping("are you there".into()))).await.unwrap();
    let (end, _) = harness.end().await;
    assert_eq!((end.close_frame().0, end.reason_code()), (1002, "browser_idle"));
    assert!(start.elapsed() >= Duration::from_secs(3));
}
