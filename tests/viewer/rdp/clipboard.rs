//! The clipboard with real programs: xclip on the client's display, xclip on the desktop's, FreeRDP
//! and xrdp between them, and the gateway's policy.

use super::super::recording_audit::RecordingAudit;
use super::harness::{TIMEOUT, real, server};
use crate::support::pdeathsig::{PdeathsigChild, pdeathsig_command};
use crate::support::wait::within;
use crate::support::xrdp::{COLOUR, PASSWORD, USER, Xrdp};
use portcullis::domain::upstream::{Clipboard, StreamPolicy};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// A display and its authority file.
struct Screen {
    display: String,
    authority: Option<PathBuf>,
}

impl Screen {
    fn xclip(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = pdeathsig_command("xclip");
        command.args(["-selection", "clipboard"]).args(arguments).env("DISPLAY", &self.display);
        if let Some(authority) = &self.authority {
            command.env("XAUTHORITY", authority);
        }
        command
    }

    /// Copies a text; it is available until the value is dropped or another text is copied.
    async fn copy(&self, text: &str) -> PdeathsigChild {
        let mut owner = PdeathsigChild::start(self.xclip(&["-quiet", "-in"]).stdin(Stdio::piped()));
        let mut input = owner.0.stdin.take().unwrap();
        input.write_all(text.as_bytes()).await.unwrap();
        owner
    }

    /// The text that would be pasted.
    async fn paste(&self) -> String {
        let pasted =
            self.xclip(&["-out", "-target", "UTF8_STRING"]).stdout(Stdio::piped()).output();
        let output = timeout(Duration::from_secs(10), pasted).await;
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.unwrap().stdout).into_owned(),
        )
    }

    /// Waits until this text would be pasted.
    async fn wait_for_paste(&self, text: &str) {
        let mut last = String::new();
        let arrived = within(TIMEOUT, async || {
            last = self.paste().await;
            last == text
        })
        .await;
        assert!(arrived.is_some(), "{text:?} does not arrive; it pastes {last:?}");
    }
}

#[tokio::test]
async fn clipboard_text_passes_in_the_directions_that_policy_allows() {
    let xrdp = Xrdp::start().await;
    let pin = RecordingAudit::default();
    for clipboard in [Clipboard::Both, Clipboard::In, Clipboard::Out, Clipboard::None] {
        let mut wanted = server(Some((USER, PASSWORD)));
        wanted.policy = StreamPolicy { clipboard, ..StreamPolicy::default() };
        let audit = RecordingAudit::default();
        if let Some(pin) = pin.pin() {
            audit.accept_pin(pin);
        }
        let (_rig, mut client) = real(wanted, xrdp.port, audit.clone()).with_client(&[]).await;
        client.wait_for_colour(COLOUR).await;
        let started = xrdp.home_file("started", |text| text.ends_with('\n')).await;
        let display = started.split_whitespace().nth(1).unwrap().to_owned();
        let there = Screen { display, authority: Some(xrdp.home.join(".Xauthority")) };
        let here = Screen { display: client.display.clone(), authority: None };
        let (ours, theirs) =
            (format!("hier: ü {}", clipboard.as_str()), format!("dort: € {}", clipboard.as_str()));

        let _ours = here.copy(&ours).await;
        if clipboard.allows_in() {
            there.wait_for_paste(&ours).await;
        } else if clipboard == Clipboard::Out {
            audit
                .wait_until(|audit| {
                    audit
                        .refused_totals()
                        .iter()
                        .any(|(channel, way, ..)| (*channel, *way) == ("clipboard", "in"))
                })
                .await;
        }
        if !clipboard.allows_in() {
            assert_ne!(there.paste().await, ours);
        }
        let _theirs = there.copy(&theirs).await;
        if clipboard.allows_out() {
            here.wait_for_paste(&theirs).await;
        } else if clipboard == Clipboard::In {
            audit
                .wait_until(|audit| {
                    audit
                        .refused_totals()
                        .iter()
                        .any(|(channel, way, ..)| (*channel, *way) == ("clipboard", "out"))
                })
                .await;
        }
        if !clipboard.allows_out() {
            assert_ne!(here.paste().await, theirs);
        }
    }
}
