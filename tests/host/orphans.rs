//! `kill -9` of an agent: its desktops end with it, and the next agent starts clean.

use super::harness::{UIDS, processes_with_mark, read_complete_file, spec, wait_until};
use crate::support::process_guard::spawn_guarded;
use portcullis::domain::UserId;
use portcullis::host::desktop::{DesktopSpec, DisplayProtocol, Launcher, Limits};
use std::process::{Command, Stdio};

const FOLDER: &str = "PORTCULLIS_TEST_AGENT_FOLDER";

/// Not a test: the process that is killed. Run by the test below, as a child of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of the test below"]
async fn a_process_with_a_desktop() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = std::path::PathBuf::from(folder);
    let launcher = Launcher::new(&folder, Limits::default(), UIDS).unwrap();
    let mut desktops = Vec::new();
    let mut marks = String::new();
    for screen in [DisplayProtocol::Rfb, DisplayProtocol::Rdp] {
        let (spec, mark) = spec(UserId::new());
        desktops.push(launcher.launch(DesktopSpec { protocol: screen, ..spec }).await.unwrap());
        marks += &format!("{mark}\n");
    }
    std::fs::write(folder.join("marks"), marks + "END").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_an_agent_leaves_no_desktop() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "host::orphans::a_process_with_a_desktop", "--ignored", "--nocapture"])
        .env(FOLDER, dir.path());
    let mut agent = spawn_guarded(command.stdout(Stdio::null())).unwrap();
    let text = read_complete_file(&dir.path().join("marks"), "END").await;
    let marks: Vec<&str> = text.lines().filter(|line| line.starts_with("mark-")).collect();
    assert_eq!(marks.len(), 2);
    assert!(marks.iter().all(|mark| !processes_with_mark(mark).is_empty()));
    let begun = std::time::Instant::now();
    agent.kill().unwrap();
    agent.wait().unwrap();
    wait_until("every process is gone", || {
        marks.iter().all(|mark| processes_with_mark(mark).is_empty())
    })
    .await;
    println!("after kill -9 of the agent its desktops were gone in {:?}", begun.elapsed());

    // What the dead one left on disk is cleared away, and homes are kept.
    let homes = std::fs::read_dir(dir.path().join("homes")).unwrap().count();
    let _next = Launcher::new(dir.path(), Limits::default(), UIDS).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("run")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(dir.path().join("homes")).unwrap().count(), homes);
}
