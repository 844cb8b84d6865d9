//! A user's actions on a real desktop: look, type, copy and paste.

use super::desktop::{Desktop, TIMEOUT};
use crate::support::vnc::Event;
use crate::support::wait::eventually;
use std::path::Path;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

/// Waits until a file has content.
pub async fn content(path: &Path) -> String {
    eventually("the file is written", async || {
        tokio::fs::read_to_string(path).await.ok().filter(|text| text.ends_with('\n'))
    })
    .await
}

#[tokio::test]
async fn first_frame_and_a_line_typed_into_a_terminal() {
    let desktop = Desktop::start().await;
    let start = Instant::now();
    let (harness, mut client) = desktop.open().await;
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();
    println!("dial to first frame: {:?}", start.elapsed());
    assert_eq!((client.width, client.height, client.name.as_str()), (640, 480, "Linux Desktop"));

    let typed = desktop.path("typed");
    let script = format!("read line; echo \"$line\" > {}", typed.display());
    let empty = client.colours();
    let _terminal = desktop.run("xterm", &["-geometry", "80x24+0+0", "-e", "sh", "-c", &script]);
    // Without a window manager the keyboard focus follows the pointer.
    client.pointer(0, 100, 100).await.unwrap();
    timeout(TIMEOUT, client.read_until(|c| c.colours() > empty))
        .await
        .expect("the terminal is painted")
        .unwrap();
    client.type_text("ls -la /tmp; echo done\n").await.unwrap();
    assert_eq!(content(&typed).await, "ls -la /tmp; echo done\n");

    assert!(harness.meters.down.load(std::sync::atomic::Ordering::Relaxed) >= 640 * 480 * 4);
    drop(client);
}

#[tokio::test]
async fn the_clipboard_goes_both_ways() {
    let desktop = Desktop::start().await;
    let (_rig, mut client) = desktop.open().await;
    timeout(TIMEOUT, client.frame()).await.unwrap().unwrap();

    let mut copy = desktop.run("xclip", &["-selection", "clipboard", "-in"]);
    let mut input = copy.stdin.take().unwrap();
    input.write_all("copied on the desktop: é".as_bytes()).await.unwrap();
    drop(input);
    let cut = async {
        loop {
            if let Event::CutText(text) = client.next().await.unwrap() {
                return text;
            }
        }
    };
    assert_eq!(timeout(TIMEOUT, cut).await.expect("it is told"), "copied on the desktop: é");

    client.cut_text("pasted in the browser: ü").await.unwrap();
    let pasted = eventually("the text arrives", async || {
        let paste = desktop.run("xclip", &["-selection", "clipboard", "-out"]);
        let output = paste.wait_with_output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.starts_with("pasted").then_some(text)
    })
    .await;
    assert_eq!(pasted, "pasted in the browser: ü");
}

#[tokio::test]
async fn a_wrong_password_is_reported_by_the_real_server() {
    let desktop = Desktop::start().await;
    // Another password than the lease's.
    std::fs::write(desktop.path("passwd"), [0; 8]).unwrap();
    let harness = desktop.attach();
    let (end, mut browser) = harness.end().await;
    assert_eq!(end.reason_code(), "rfb_denied");
    assert!(
        end.cause().unwrap().to_string().starts_with("it did not accept the password: "),
        "{:?}",
        end.cause()
    );
    assert_eq!(browser.receive().await, None);
}
