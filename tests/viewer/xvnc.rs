//! A real desktop: Xtigervnc with a password, reached over a unix socket, with the viewer in between and a small client as the browser.

use super::rig::{DialWith, Rig, Told};
use crate::support::tether::tethered;
use crate::support::vnc::{Event, VncClient};
use futures_util::future::FutureExt;
use portcullis::viewer::Duplex;
use portcullis::viewer::browser::Heard;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::{Instant, timeout};

/// "vncpass1" as `tigervncpasswd -f` writes it.
const PASSWORD_FILE: [u8; 8] = [0x26, 0x5a, 0x14, 0xa0, 0x71, 0x8c, 0xeb, 0x37];
const LONG: Duration = Duration::from_secs(60);

/// A running X server; ends with the value.
struct Desktop {
    directory: TempDir,
    display: String,
    server: Child,
}

impl Drop for Desktop {
    /// Asks it to end and waits, so that it takes its lock files along; `kill_on_drop` is for the case that it does not listen.
    fn drop(&mut self) {
        let pid = self.server.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        let _ = kill_process(pid, Signal::TERM);
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        while matches!(self.server.try_wait(), Ok(None)) && std::time::Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Desktop {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let password = directory.path().join("passwd");
        std::fs::write(&password, PASSWORD_FILE).unwrap();
        let mut server = tethered("Xtigervnc")
            .args([
                "-displayfd",
                "1",
                "-rfbport",
                "-1",
                "-SecurityTypes",
                "VncAuth",
                "-geometry",
                "640x480",
                "-depth",
                "24",
                "-nolisten",
                "tcp",
                "-desktop",
                "Linux Desktop",
            ])
            .arg("-rfbunixpath")
            .arg(directory.path().join("rfb.sock"))
            .arg("-PasswordFile")
            .arg(&password)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Xtigervnc is installed (tigervnc-standalone-server)");
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let number = timeout(LONG, lines.next_line()).await.expect("it starts").unwrap().expect("it says its display");
        Self { directory, display: format!(":{}", number.trim()), server }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Child {
        let mut command = tethered(program);
        command.args(arguments).env("DISPLAY", &self.display).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// A stream to it through the viewer, and its client after the first frame.
    async fn open(&self) -> (Rig, VncClient<DuplexStream>) {
        let socket = self.path("rfb.sock");
        let mut rig = Rig::dialling(DialWith(move || {
            let socket = socket.clone();
            async move { Ok(Box::new(UnixStream::connect(socket).await?) as Box<dyn Duplex>) }.boxed()
        }));
        let stream = browser_stream(&mut rig);
        let client = timeout(LONG, VncClient::connect(stream)).await.expect("it answers").unwrap();
        (rig, client)
    }
}

/// The browser's end of a rig as a stream of bytes.
fn browser_stream(rig: &mut Rig) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut reader, mut writer) = tokio::io::split(far);
    let mut told = std::mem::replace(&mut rig.browser.told, tokio::sync::mpsc::channel(1).1);
    let (say, pong) = (rig.browser.say.clone(), rig.browser.say.clone());
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            let _ = say.send(Ok(Heard::Bytes(buffer[..n].to_vec().into()))).await;
        }
    });
    tokio::spawn(async move {
        while let Some(told) = told.recv().await {
            match told {
                Told::Bytes(bytes) => drop(writer.write_all(&bytes).await),
                Told::Ping(payload) => drop(pong.try_send(Ok(Heard::Pong(payload)))),
                Told::Pong(_) => {}
            }
        }
    });
    near
}

/// Waits until a file has content.
async fn content(path: &Path) -> String {
    let filled = async {
        loop {
            match tokio::fs::read_to_string(path).await {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(LONG, filled).await.expect("the file is written")
}

#[tokio::test]
async fn first_frame_and_a_line_typed_into_a_terminal() {
    let desktop = Desktop::start().await;
    let start = Instant::now();
    let (rig, mut client) = desktop.open().await;
    timeout(LONG, client.frame()).await.unwrap().unwrap();
    println!("dial to first frame: {:?}", start.elapsed());
    assert_eq!((client.width, client.height, client.name.as_str()), (640, 480, "Linux Desktop"));

    let typed = desktop.path("typed");
    let script = format!("read line; echo \"$line\" > {}", typed.display());
    let empty = client.colours();
    let _terminal = desktop.run("xterm", &["-geometry", "80x24+0+0", "-e", "sh", "-c", &script]);
    // Without a window manager the keyboard goes where the pointer is.
    client.pointer(0, 100, 100).await.unwrap();
    timeout(LONG, client.until(|c| c.colours() > empty)).await.expect("the terminal is painted").unwrap();
    client.type_text("ls -la /tmp; echo done\n").await.unwrap();
    assert_eq!(content(&typed).await, "ls -la /tmp; echo done\n");

    assert!(rig.meters.down.load(std::sync::atomic::Ordering::Relaxed) >= 640 * 480 * 4);
    drop(client);
}

#[tokio::test]
async fn the_clipboard_goes_both_ways() {
    let desktop = Desktop::start().await;
    let (_rig, mut client) = desktop.open().await;
    timeout(LONG, client.frame()).await.unwrap().unwrap();

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
    assert_eq!(timeout(LONG, cut).await.expect("it is told"), "copied on the desktop: é");

    client.cut_text("pasted in the browser: ü").await.unwrap();
    let pasted = async {
        loop {
            let paste = desktop.run("xclip", &["-selection", "clipboard", "-out"]);
            let output = paste.wait_with_output().await.unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.starts_with("pasted") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(timeout(LONG, pasted).await.expect("it arrives"), "pasted in the browser: ü");
}

#[tokio::test]
async fn a_wrong_password_is_told_by_the_real_server() {
    let desktop = Desktop::start().await;
    // Another password than the lease's.
    std::fs::write(desktop.path("passwd"), [0; 8]).unwrap();
    let socket = desktop.path("rfb.sock");
    let rig = Rig::dialling(DialWith(move || {
        let socket = socket.clone();
        async move { Ok(Box::new(UnixStream::connect(socket).await?) as Box<dyn Duplex>) }.boxed()
    }));
    let (end, mut browser) = rig.ended().await;
    assert_eq!(end.why(), "rfb_denied");
    assert!(end.cause().unwrap().to_string().starts_with("it did not accept the password: "), "{:?}", end.cause());
    assert_eq!(browser.hear().await, None);
}
