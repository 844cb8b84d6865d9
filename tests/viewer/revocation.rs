//! Losing the right to a stream ends it at once, whatever it was doing.

use super::harness::{FnDialer, Harness, authenticate_desktop, is_closed};
use futures_util::future::FutureExt;
use portcullis::broker::core::stream_registry::StreamAuthorization;
use portcullis::domain::session::EndReason;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

/// It takes microseconds. Whatever else could end such a stream takes longer than this, however
/// busy the machine is: the pings' patience is 20 s.
const CUT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a stream can be doing.
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

/// A stream that is doing that; the desktop's end, if there is one.
async fn stream(doing: StreamPhase) -> (Harness, Option<DuplexStream>) {
    match doing {
        StreamPhase::Dialling => {
            (Harness::with_dial(FnDialer(|| std::future::pending().boxed())), None)
        }
        StreamPhase::ProvingThePassword => {
            let mut rig = Harness::new();
            let desktop = rig.desktop().await;
            (rig, Some(desktop))
        }
        StreamPhase::GreetingTheBrowser => {
            let mut rig = Harness::new();
            let mut desktop = rig.desktop().await;
            authenticate_desktop(&mut desktop).await;
            (rig, Some(desktop))
        }
        StreamPhase::Nothing => {
            let (rig, desktop) = Harness::established().await;
            (rig, Some(desktop))
        }
        StreamPhase::WritingToABrowserThatDoesNotRead => {
            let (rig, mut desktop) = Harness::established().await;
            while tokio::time::timeout(Duration::from_millis(100), desktop.write_all(&[7; 4096]))
                .await
                .is_ok()
            {}
            (rig, Some(desktop))
        }
        StreamPhase::WritingToADesktopThatDoesNotRead => {
            let (rig, desktop) = Harness::established().await;
            while tokio::time::timeout(Duration::from_millis(100), rig.browser.send(&[7; 4096]))
                .await
                .is_ok()
            {}
            (rig, Some(desktop))
        }
    }
}

async fn end_in_phase(
    doing: StreamPhase,
    how: impl FnOnce(&mut Harness),
) -> (u16, String, &'static str) {
    let (mut rig, desktop) = stream(doing).await;
    let start = Instant::now();
    how(&mut rig);
    let (end, _browser) = rig.end().await;
    if let Some(mut desktop) = desktop {
        assert!(is_closed(&mut desktop).await, "{doing:?}");
    }
    assert!(start.elapsed() < CUT_TIMEOUT, "{doing:?} took {:?}", start.elapsed());
    let (code, reason) = end.close_frame();
    (code, reason.into_owned(), end.reason_code())
}

#[tokio::test]
async fn when_the_session_ends_whatever_it_is_doing() {
    for doing in ALL_PHASES {
        let told = end_in_phase(doing, |rig| {
            rig.authorization
                .send(StreamAuthorization::SessionEnded(EndReason::AdminStopped))
                .unwrap()
        })
        .await;
        assert_eq!(told, (4000, "admin_stopped".into(), "admin_stopped"), "{doing:?}");
    }
}

#[tokio::test]
async fn for_every_reason() {
    for reason in EndReason::ALL {
        let told = end_in_phase(StreamPhase::Nothing, |rig| {
            rig.authorization.send(StreamAuthorization::SessionEnded(reason)).unwrap()
        })
        .await;
        assert_eq!(told, (4000, reason.as_str().into(), reason.as_str()));
    }
}

#[tokio::test]
async fn when_the_login_ends() {
    for doing in ALL_PHASES {
        let told = end_in_phase(doing, |rig| {
            rig.authorization.send(StreamAuthorization::SignedOut).unwrap()
        })
        .await;
        assert_eq!(told, (4001, "signed_out".into(), "signed_out"), "{doing:?}");
    }
}

#[tokio::test]
async fn when_the_gateway_goes_away() {
    for doing in ALL_PHASES {
        let told = end_in_phase(doing, |rig| rig.draining.send(true).unwrap()).await;
        assert_eq!(told, (1001, "retry".into(), "gateway_draining"), "{doing:?}");
    }
}

#[tokio::test]
async fn when_nobody_watches_over_it() {
    let told = end_in_phase(StreamPhase::Nothing, |rig| {
        rig.authorization = tokio::sync::watch::channel(StreamAuthorization::Valid).0
    })
    .await;
    assert_eq!(told, (1001, "retry".into(), "right_unwatched"));
}

#[tokio::test]
async fn when_its_task_is_dropped() {
    let (rig, desktop) = stream(StreamPhase::WritingToABrowserThatDoesNotRead).await;
    rig.end.abort();
    assert!(is_closed(&mut desktop.unwrap()).await);
}

#[tokio::test]
async fn a_right_that_was_lost_before_is_not_used() {
    let (dial, mut calls) = super::harness::pipe_dial();
    let (right, watched) = tokio::sync::watch::channel(StreamAuthorization::Valid);
    right.send(StreamAuthorization::SignedOut).unwrap();
    let end = super::harness::attach_once(&dial, watched).await;
    assert_eq!(end.reason_code(), "signed_out");
    assert!(calls.try_recv().is_err(), "nothing is dialled");
}
