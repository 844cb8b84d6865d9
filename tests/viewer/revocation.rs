//! Losing the authorization of a stream ends it at once, in every phase.

use super::harness::{FnDialer, Harness, authenticate_desktop, is_closed};
use futures_util::future::FutureExt;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::domain::session::EndReason;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

/// Revocation takes microseconds. Everything else that could end such a stream takes longer than
/// this on any machine: the pong's time limit is 20 s.
const CUT_TIMEOUT: Duration = Duration::from_secs(10);

/// Phases of a stream.
#[derive(Clone, Copy, Debug)]
enum StreamPhase {
    Dialling,
    ProvingThePassword,
    GreetingTheBrowser,
    Nothing,
    WritingToABrowserThatDoesNotRead,
    WritingToADesktopThatDoesNotRead,
}

const ALL_PHASES: [StreamPhase; 6] = [
    StreamPhase::Dialling,
    StreamPhase::ProvingThePassword,
    StreamPhase::GreetingTheBrowser,
    StreamPhase::Nothing,
    StreamPhase::WritingToABrowserThatDoesNotRead,
    StreamPhase::WritingToADesktopThatDoesNotRead,
];

/// A stream in this phase; the desktop's end, if there is one.
async fn stream(doing: StreamPhase) -> (Harness, Option<DuplexStream>) {
    match doing {
        StreamPhase::Dialling => {
            (Harness::with_dial(FnDialer(|| std::future::pending().boxed())), None)
        }
        StreamPhase::ProvingThePassword => {
            let mut harness = Harness::new();
            let desktop = harness.desktop().await;
            (harness, Some(desktop))
        }
        StreamPhase::GreetingTheBrowser => {
            let mut harness = Harness::new();
            let mut desktop = harness.desktop().await;
            authenticate_desktop(&mut desktop).await;
            (harness, Some(desktop))
        }
        StreamPhase::Nothing => {
            let (harness, desktop) = Harness::established().await;
            (harness, Some(desktop))
        }
        StreamPhase::WritingToABrowserThatDoesNotRead => {
            let (harness, mut desktop) = Harness::established().await;
            while tokio::time::timeout(Duration::from_millis(100), desktop.write_all(&[7; 4096]))
                .await
                .is_ok()
            {}
            (harness, Some(desktop))
        }
        StreamPhase::WritingToADesktopThatDoesNotRead => {
            let (harness, desktop) = Harness::established().await;
            while tokio::time::timeout(Duration::from_millis(100), harness.browser.send(&[7; 4096]))
                .await
                .is_ok()
            {}
            (harness, Some(desktop))
        }
    }
}

async fn end_in_phase(
    doing: StreamPhase,
    how: impl FnOnce(&mut Harness),
) -> (u16, String, &'static str) {
    let (mut harness, desktop) = stream(doing).await;
    let start = Instant::now();
    how(&mut harness);
    let (end, _browser) = harness.end().await;
    if let Some(mut desktop) = desktop {
        assert!(is_closed(&mut desktop).await, "{doing:?}");
    }
    assert!(start.elapsed() < CUT_TIMEOUT, "{doing:?} took {:?}", start.elapsed());
    let (code, reason) = end.close_frame();
    (code, reason.into_owned(), end.reason_code())
}

#[tokio::test]
async fn when_the_session_ends_in_every_phase() {
    for doing in ALL_PHASES {
        let output = end_in_phase(doing, |harness| {
            harness
                .authorization
                .send(StreamAuthorization::SessionEnded(EndReason::AdminStopped))
                .unwrap()
        })
        .await;
        assert_eq!(output, (4000, "admin_stopped".into(), "admin_stopped"), "{doing:?}");
    }
}

#[tokio::test]
async fn for_every_reason() {
    for reason in EndReason::ALL {
        let output = end_in_phase(StreamPhase::Nothing, |harness| {
            harness.authorization.send(StreamAuthorization::SessionEnded(reason)).unwrap()
        })
        .await;
        assert_eq!(output, (4000, reason.as_str().into(), reason.as_str()));
    }
}

#[tokio::test]
async fn when_the_login_ends() {
    for doing in ALL_PHASES {
        let output = end_in_phase(doing, |harness| {
            harness.authorization.send(StreamAuthorization::SignedOut).unwrap()
        })
        .await;
        assert_eq!(output, (4001, "signed_out".into(), "signed_out"), "{doing:?}");
    }
}

#[tokio::test]
async fn when_the_gateway_shuts_down() {
    for doing in ALL_PHASES {
        let output = end_in_phase(doing, |harness| harness.draining.send(true).unwrap()).await;
        assert_eq!(output, (1001, "retry".into(), "gateway_draining"), "{doing:?}");
    }
}

#[tokio::test]
async fn when_the_authorization_has_no_sender() {
    let output = end_in_phase(StreamPhase::Nothing, |harness| {
        harness.authorization = tokio::sync::watch::channel(StreamAuthorization::Valid).0
    })
    .await;
    assert_eq!(output, (1001, "retry".into(), "right_unwatched"));
}

#[tokio::test]
async fn when_its_task_is_dropped() {
    let (harness, desktop) = stream(StreamPhase::WritingToABrowserThatDoesNotRead).await;
    harness.end.abort();
    assert!(is_closed(&mut desktop.unwrap()).await);
}

#[tokio::test]
async fn an_authorization_lost_before_is_not_used() {
    let (dial, mut connections) = super::harness::pipe_dial();
    let (authorization, watched) = tokio::sync::watch::channel(StreamAuthorization::Valid);
    authorization.send(StreamAuthorization::SignedOut).unwrap();
    let end = super::harness::attach_once(&dial, watched).await;
    assert_eq!(end.reason_code(), "signed_out");
    assert!(connections.try_recv().is_err(), "nothing is dialled");
}
