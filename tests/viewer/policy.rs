//! Policy with a real desktop: forbidden content has no effect there and is counted; allowed
//! content has its effect.

use super::desktop::{Desktop, TIMEOUT};
use super::harness::{Harness, INIT, authenticate_desktop, read, server};
use super::recording_audit::RecordingAudit;
use super::xvnc::content;
use crate::support::vnc::{Event, VncClient};
use crate::support::wait::eventually;
use portcullis::domain::upstream::{Clipboard, StreamPolicy, Upstream};
use portcullis::viewer::Timeouts;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::process::Child;
use tokio::time::timeout;

fn under(policy: StreamPolicy) -> Upstream {
    Upstream { policy, ..server() }
}

fn clipboard(clipboard: Clipboard) -> Upstream {
    under(StreamPolicy { clipboard, ..StreamPolicy::default() })
}

/// Copies on the desktop. The program owns the selection as long as it runs.
async fn copy(desktop: &Desktop, text: &str) -> Child {
    let mut copy = desktop.run("xclip", &["-quiet", "-selection", "clipboard", "-in"]);
    copy.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    copy
}

/// Content of the desktop's clipboard.
async fn pasted(desktop: &Desktop) -> String {
    let paste = desktop.run("xclip", &["-selection", "clipboard", "-out"]);
    String::from_utf8_lossy(&paste.wait_with_output().await.unwrap().stdout).into_owned()
}

async fn until_pasted(desktop: &Desktop, text: &str) {
    eventually(format!("{text:?} arrives"), async || pasted(desktop).await == text).await;
}

/// The next clipboard text that the browser receives; it requests updates meanwhile.
async fn received_text(client: &mut VncClient<DuplexStream>) -> String {
    let next = async {
        loop {
            if let Event::CutText(text) = client.next().await.unwrap() {
                return text;
            }
        }
    };
    timeout(TIMEOUT, next).await.expect("it is told")
}

#[tokio::test]
async fn clipboard_text_passes_in_the_allowed_directions_only() {
    for way in Clipboard::ALL {
        let desktop = Desktop::start().await;
        let audit = RecordingAudit::default();
        let (harness, mut client) = desktop.open_as(clipboard(way), audit.clone()).await;
        timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
        let mut expected = Vec::new();

        let _first = copy(&desktop, "copied out").await;
        if way.allows_out() {
            assert_eq!(received_text(&mut client).await, "copied out", "{way:?}");
        } else {
            until_pasted(&desktop, "copied out").await;
            audit.wait_until(|audit| !audit.refused_totals().is_empty()).await;
            expected.push(("clipboard", "out", 10, 1));
        }
        client.cut_text("pasted in!").await.unwrap();
        if way.allows_in() {
            until_pasted(&desktop, "pasted in!").await;
        } else {
            audit
                .wait_until(|audit| audit.refused_totals().iter().any(|line| line.1 == "in"))
                .await;
            assert_eq!(pasted(&desktop).await, "copied out", "{way:?}");
            expected.insert(0, ("clipboard", "in", 10, 1));
        }
        // The stream continues after the refused messages.
        timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
        drop(client);
        harness
            .browser
            .input
            .send(Err(portcullis::viewer::stream_end::StreamEnd::BrowserClosed))
            .await
            .unwrap();
        assert_eq!(harness.end().await.0.reason_code(), "browser_closed");
        assert_eq!(audit.refused_totals(), expected, "{way:?}");
    }
}

#[tokio::test]
async fn read_only_shows_the_desktop_and_refuses_input() {
    let desktop = Desktop::start().await;
    let audit = RecordingAudit::default();
    let (_rig, mut client) = desktop
        .open_as(under(StreamPolicy { read_only: true, ..StreamPolicy::default() }), audit.clone())
        .await;
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
    let typed = desktop.path("typed");
    let script = format!("read line; echo \"$line\" > {}", typed.display());
    let empty = client.colours();
    let _terminal = desktop.run("xterm", &["-geometry", "80x24+0+0", "-e", "sh", "-c", &script]);
    timeout(TIMEOUT, client.read_until(|c| c.colours() > empty))
        .await
        .expect("the terminal is painted")
        .unwrap();
    client.pointer(0, 100, 100).await.unwrap();
    client.type_text("secret\n").await.unwrap();
    client.cut_text("text").await.unwrap();
    timeout(TIMEOUT, client.frame()).await.expect("it is shown all the same").unwrap();
    audit
        .wait_until(|audit| {
            audit.refused_totals() == [("clipboard", "in", 4, 1), ("input", "in", 6 + 14 * 8, 15)]
        })
        .await;
    // Its clipboard text passes, and a user with input permission can type.
    let _copy = copy(&desktop, "copied out").await;
    assert_eq!(received_text(&mut client).await, "copied out");
    let (_other, mut other) = desktop.open().await;
    timeout(TIMEOUT, other.frame()).await.unwrap().unwrap();
    other.pointer(0, 100, 100).await.unwrap();
    other.type_text("allowed\n").await.unwrap();
    assert_eq!(content(&typed).await, "allowed\n");
}

/// Every encoding of a real server, while it paints: a wrongly computed length would end the
/// stream, or misplace the text.
#[tokio::test]
async fn text_is_found_among_rectangles_of_every_encoding() {
    let desktop = Desktop::start().await;
    let mut scroll = desktop.run(
        "xterm",
        &[
            "-geometry",
            "80x24+0+0",
            "-e",
            "sh",
            "-c",
            "while :; do head -c 1200 /dev/urandom | base64; sleep 0.1; done",
        ],
    );
    for (name, encoding) in [("raw", 0), ("rre", 2), ("hextile", 5), ("tight", 7), ("zrle", 16)] {
        let audit = RecordingAudit::default();
        let (harness, mut client) =
            desktop.open_as(clipboard(Clipboard::None), audit.clone()).await;
        // With a quality level, so that Tight uses JPEG, and noVNC's other pseudo-encodings.
        let list = [
            encoding,
            1,
            -26,
            -254,
            -223,
            -224,
            -258,
            -261,
            -307,
            -308,
            -1_063_131_698,
            -316,
            0x574d_5664,
            -239,
        ];
        let mut message = vec![2, 0, 0, u8::try_from(list.len()).unwrap()];
        list.iter().for_each(|encoding: &i32| message.extend_from_slice(&encoding.to_be_bytes()));
        client.send(&message).await.unwrap();
        client.request(false).await.unwrap();
        let (width, height) = (client.width, client.height);
        let (mut reader, mut writer) = tokio::io::split(client.into_stream());
        let request =
            [&[3, 1, 0, 0, 0, 0][..], &width.to_be_bytes(), &height.to_be_bytes()].concat();
        let asking = tokio::spawn(async move {
            while writer.write_all(&request).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
        let drain = tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(1..) = reader.read(&mut buffer).await {}
        });
        for round in 1..=3 {
            let mut copied = copy(&desktop, &format!("secret {name} {round}")).await;
            audit
                .wait_until(|audit| audit.refused_totals().iter().any(|line| line.3 >= round))
                .await;
            let _ = copied.kill().await;
        }
        eventually(format!("{name}: it paints"), async || {
            harness.meters.down.load(Ordering::Relaxed) >= 30_000 || harness.end.is_finished()
        })
        .await;
        assert!(!harness.end.is_finished(), "{name}");
        let length = u64::try_from(format!("secret {name} 1").len()).unwrap();
        let refused = audit.refused_totals();
        assert!(
            refused
                .iter()
                .all(|line| (line.0, line.1) == ("clipboard", "out") && line.2 == length * line.3),
            "{name}: {refused:?}"
        );
        asking.abort();
        harness
            .browser
            .input
            .send(Err(portcullis::viewer::stream_end::StreamEnd::BrowserClosed))
            .await
            .unwrap();
        let end = harness.end().await.0;
        assert_eq!(
            end.reason_code(),
            "browser_closed",
            "{name}: {:?}",
            end.cause().map(ToString::to_string)
        );
        drain.abort();
    }
    let _ = scroll.kill().await;
}

#[tokio::test]
async fn two_sessions_never_mix() {
    let desktops = [Desktop::start().await, Desktop::start().await];
    let [mut ones, mut twos] = [desktops[0].open().await, desktops[1].open().await];
    for (desktop, colour) in desktops.iter().zip(["#112233", "#445566"]) {
        let done = desktop.run("xsetroot", &["-solid", colour]).wait_with_output().await.unwrap();
        assert!(done.status.success());
    }
    for ((_, client), pixel) in [(&mut ones, 0x0011_2233), (&mut twos, 0x0044_5566)] {
        timeout(TIMEOUT, client.read_until(|c| c.pixels.iter().all(|p| *p == pixel)))
            .await
            .expect("its own colour everywhere")
            .unwrap();
    }
    ones.1.cut_text("of the first").await.unwrap();
    twos.1.cut_text("of the second").await.unwrap();
    until_pasted(&desktops[0], "of the first").await;
    until_pasted(&desktops[1], "of the second").await;
}

/// A stream under a policy, after both handshakes, with a desktop that the test controls.
async fn scripted(policy: StreamPolicy) -> (Harness, DuplexStream) {
    let (dial, connections) = super::harness::pipe_dial();
    let lease = super::harness::lease_to(
        portcullis::domain::OrganizationId::new(),
        portcullis::domain::workspace::WorkspaceKind::Vnc,
        under(policy),
    );
    let mut harness = Harness::with_lease(
        lease,
        dial,
        connections,
        Timeouts::default(),
        RecordingAudit::default(),
    );
    let mut desktop = harness.desktop().await;
    harness.handshake(&mut desktop).await;
    (harness, desktop)
}

#[tokio::test]
async fn forbidden_content_that_cannot_be_removed_ends_the_stream() {
    let none = StreamPolicy { clipboard: Clipboard::None, ..StreamPolicy::default() };
    // The text is not forwarded, although the stream fails after it.
    for (said, end) in [
        (&[3, 0, 0, 0, 0, 0, 0, 2, b'h', b'i', 77][..], (4007, "policy")),
        (
            &[0, 0, 0, 1, 0, 0, 0, 0, 0xea, 0x60, 0xea, 0x60, 0, 0, 0, 0],
            (4002, "desktop_malformed"),
        ),
        (&[3, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff], (4002, "desktop_malformed")),
    ] {
        let (harness, mut desktop) = scripted(none).await;
        desktop.write_all(said).await.unwrap();
        let (ended, mut browser) = harness.end().await;
        assert_eq!((ended.close_frame().0, ended.reason_code()), end);
        while let Some(output) = browser.receive().await {
            let super::harness::BrowserMessage::Bytes(bytes) = output else { continue };
            assert!(!bytes.windows(2).any(|two| two == b"hi"), "{bytes:?}");
        }
    }
    for (said, end) in [
        (&[77_u8][..], (4007, "policy")),
        (&[6, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff], (1002, "browser_malformed")),
    ] {
        let (harness, _desktop) = scripted(none).await;
        harness.browser.send(said).await;
        let (ended, _) = harness.end().await;
        assert_eq!((ended.close_frame().0, ended.reason_code()), end);
    }
}

#[tokio::test]
async fn a_size_no_browser_can_hold_is_not_forwarded() {
    let mut harness = Harness::new();
    let mut desktop = harness.desktop().await;
    authenticate_desktop(&mut desktop).await;
    harness.browser.negotiate().await;
    harness.browser.send(&[1]).await;
    assert_eq!(read(&mut desktop, 1).await, [1]);
    desktop
        .write_all(&[&60_000_u16.to_be_bytes(), &60_000_u16.to_be_bytes(), &INIT[4..]].concat())
        .await
        .unwrap();
    let (end, mut browser) = harness.end().await;
    assert_eq!(
        end.close_frame(),
        (4002, "desktop: A picture of 60000 x 60000 is too large for a browser.".into())
    );
    assert_eq!(browser.receive().await, None);
}

#[tokio::test]
async fn refusals_are_merged_and_none_is_lost() {
    let (harness, mut desktop) =
        scripted(StreamPolicy { read_only: true, ..StreamPolicy::default() }).await;
    let audit = harness.audit.clone();
    for _ in 0..500 {
        harness.browser.send(&[5, 0, 0, 1, 0, 1]).await;
    }
    harness.browser.send(&[3, 1, 0, 0, 0, 0, 0, 2, 0, 1]).await;
    assert_eq!(read(&mut desktop, 10).await[0], 3, "all were seen");
    harness
        .browser
        .input
        .send(Err(portcullis::viewer::stream_end::StreamEnd::BrowserClosed))
        .await
        .unwrap();
    harness.end().await;
    assert_eq!(audit.refused_totals(), [("input", "in", 3000, 500)]);
    // One at once, then at most one a second, and the last at the end; no machine is so slow that
    // it is one for each refusal.
    assert!(audit.events().len() < 100, "{} entries", audit.events().len());
}
