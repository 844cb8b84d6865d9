//! Losing the right to a stream ends it at once, whatever it was doing.

use super::rig::{DialWith, Rig, admit, is_closed};
use futures_util::future::FutureExt;
use portcullis::broker::live::Right;
use portcullis::domain::session::EndReason;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

/// It takes microseconds. Whatever else could end such a stream takes longer than this, however
/// busy the machine is: the pings' patience is 20 s.
const AT_ONCE: Duration = Duration::from_secs(10);

/// What a stream can be doing.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Dialling,
    ProvingThePassword,
    GreetingTheBrowser,
    Nothing,
    WritingToABrowserThatDoesNotRead,
    WritingToADesktopThatDoesNotRead,
}

const EVERYTHING: [Doing; 6] = [
    Doing::Dialling,
    Doing::ProvingThePassword,
    Doing::GreetingTheBrowser,
    Doing::Nothing,
    Doing::WritingToABrowserThatDoesNotRead,
    Doing::WritingToADesktopThatDoesNotRead,
];

/// A stream that is doing that; the desktop's end, if there is one.
async fn stream(doing: Doing) -> (Rig, Option<DuplexStream>) {
    match doing {
        Doing::Dialling => (Rig::dialling(DialWith(|| std::future::pending().boxed())), None),
        Doing::ProvingThePassword => {
            let mut rig = Rig::new();
            let desktop = rig.desktop().await;
            (rig, Some(desktop))
        }
        Doing::GreetingTheBrowser => {
            let mut rig = Rig::new();
            let mut desktop = rig.desktop().await;
            admit(&mut desktop).await;
            (rig, Some(desktop))
        }
        Doing::Nothing => {
            let (rig, desktop) = Rig::joined().await;
            (rig, Some(desktop))
        }
        Doing::WritingToABrowserThatDoesNotRead => {
            let (rig, mut desktop) = Rig::joined().await;
            while tokio::time::timeout(Duration::from_millis(100), desktop.write_all(&[7; 4096]))
                .await
                .is_ok()
            {}
            (rig, Some(desktop))
        }
        Doing::WritingToADesktopThatDoesNotRead => {
            let (rig, desktop) = Rig::joined().await;
            while tokio::time::timeout(Duration::from_millis(100), rig.browser.send(&[7; 4096]))
                .await
                .is_ok()
            {}
            (rig, Some(desktop))
        }
    }
}

async fn cut(doing: Doing, how: impl FnOnce(&mut Rig)) -> (u16, String, &'static str) {
    let (mut rig, desktop) = stream(doing).await;
    let start = Instant::now();
    how(&mut rig);
    let (end, _browser) = rig.ended().await;
    if let Some(mut desktop) = desktop {
        assert!(is_closed(&mut desktop).await, "{doing:?}");
    }
    assert!(start.elapsed() < AT_ONCE, "{doing:?} took {:?}", start.elapsed());
    let (code, reason) = end.close();
    (code, reason.into_owned(), end.why())
}

#[tokio::test]
async fn when_the_session_ends_whatever_it_is_doing() {
    for doing in EVERYTHING {
        let told =
            cut(doing, |rig| rig.right.send(Right::SessionEnded(EndReason::AdminStopped)).unwrap())
                .await;
        assert_eq!(told, (4000, "admin_stopped".into(), "admin_stopped"), "{doing:?}");
    }
}

#[tokio::test]
async fn for_every_reason() {
    for reason in EndReason::ALL {
        let told =
            cut(Doing::Nothing, |rig| rig.right.send(Right::SessionEnded(reason)).unwrap()).await;
        assert_eq!(told, (4000, reason.as_str().into(), reason.as_str()));
    }
}

#[tokio::test]
async fn when_the_login_ends() {
    for doing in EVERYTHING {
        let told = cut(doing, |rig| rig.right.send(Right::SignedOut).unwrap()).await;
        assert_eq!(told, (4001, "signed_out".into(), "signed_out"), "{doing:?}");
    }
}

#[tokio::test]
async fn when_the_gateway_goes_away() {
    for doing in EVERYTHING {
        let told = cut(doing, |rig| rig.draining.send(true).unwrap()).await;
        assert_eq!(told, (1001, "retry".into(), "gateway_draining"), "{doing:?}");
    }
}

#[tokio::test]
async fn when_nobody_watches_over_it() {
    let told =
        cut(Doing::Nothing, |rig| rig.right = tokio::sync::watch::channel(Right::Held).0).await;
    assert_eq!(told, (1001, "retry".into(), "right_unwatched"));
}

#[tokio::test]
async fn when_its_task_is_dropped() {
    let (rig, desktop) = stream(Doing::WritingToABrowserThatDoesNotRead).await;
    rig.end.abort();
    assert!(is_closed(&mut desktop.unwrap()).await);
}

#[tokio::test]
async fn a_right_that_was_lost_before_is_not_used() {
    let (dial, mut calls) = super::rig::switchboard();
    let (right, watched) = tokio::sync::watch::channel(Right::Held);
    right.send(Right::SignedOut).unwrap();
    let end = super::rig::attach_once(&dial, watched).await;
    assert_eq!(end.why(), "signed_out");
    assert!(calls.try_recv().is_err(), "nothing is dialled");
}
