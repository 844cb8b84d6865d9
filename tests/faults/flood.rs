//! A browser that stops reading while the desktop draws without end: what the gateway and the agent
//! hold for it is bounded.

use super::stack::{Stack, TIMEOUT};
use crate::support::vnc::RETURN;
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// The most that either may grow by: a tunnel's windows, a connection's buffers, some frames.
const GROWTH_MAX: u64 = 24 * 1024;

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap()
}

/// FramebufferUpdateRequest for everything: incremental or not.
fn request(incremental: bool) -> Message {
    Message::Binary(vec![3, u8::from(incremental), 0, 0, 0, 0, 5, 0, 3, 32].into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_stops_reading_costs_little() {
    let stack = Stack::start().await;
    let member = stack.sign_in("member").await;
    let session = stack.launch(&member).await;
    // Something that draws for ever: the terminal that is open at the start has the focus once it
    // is there.
    let (mut desktop, ended) = stack.open(&member, &session).await;
    timeout(TIMEOUT, desktop.read_until(|d| d.colours() > 20)).await.unwrap().unwrap();
    let (x, y) = (desktop.width / 3, desktop.height / 3);
    desktop.pointer(1, x, y).await.unwrap();
    desktop.pointer(0, x, y).await.unwrap();
    desktop.type_text("yes all work and no play makes a dull gateway").await.unwrap();
    desktop.key(RETURN, true).await.unwrap();
    desktop.key(RETURN, false).await.unwrap();
    let mut changing = 0;
    let began = Instant::now();
    while changing < 30 {
        assert!(began.elapsed() < TIMEOUT, "nothing is drawn");
        let before = desktop.pixels.clone();
        desktop.request(true).await.unwrap();
        timeout(TIMEOUT, desktop.next()).await.unwrap().unwrap();
        changing += u32::from(before != desktop.pixels);
    }
    drop(desktop);
    let _ = timeout(TIMEOUT, ended).await.unwrap();

    // A browser by hand: through the handshake, raw pixels, and then it asks for picture after
    // picture and reads none of them.
    let mut socket = stack.socket(&stack.ticket(&member, &session).await.unwrap()).await.unwrap();
    for answer in [&b"RFB 003.008\n"[..], &[1], &[1]] {
        socket.next().await.unwrap().unwrap();
        socket.send(Message::Binary(answer.to_vec().into())).await.unwrap();
    }
    socket.send(Message::Binary(vec![2, 0, 0, 1, 0, 0, 0, 0].into())).await.unwrap();
    socket.send(request(false)).await.unwrap();
    for _ in 0..20 {
        socket.next().await.unwrap().unwrap();
    }
    let processes = [("gateway", stack.gateway_pid()), ("agent", stack.agent_pid())];
    let before = processes.map(|(_, pid)| resident(pid));
    let began = Instant::now();
    let mut asked = 0_u64;
    let mut grown = [0; 2];
    while asked <= 500 || began.elapsed() < Duration::from_secs(8) {
        assert!(began.elapsed() < TIMEOUT, "asked for {asked} pictures only");
        // When not even this goes through any more, nothing else is taken in either.
        if timeout(Duration::from_millis(20), socket.send(request(asked.is_multiple_of(2))))
            .await
            .is_ok_and(|sent| sent.is_ok())
        {
            asked += 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        for (i, (name, pid)) in processes.into_iter().enumerate() {
            grown[i] = resident(pid).saturating_sub(before[i]).max(grown[i]);
            assert!(grown[i] < GROWTH_MAX, "the {name} grew by {} KiB", grown[i]);
        }
    }
    println!(
        "asked for {asked} pictures of 4 MB and read none: the gateway grew by {} KiB, the agent by {} KiB (from {before:?})",
        grown[0], grown[1]
    );

    // Reading again, it gets what it asked for; and somebody else was served all along.
    let mut read = 0;
    let began = Instant::now();
    while read < 4 << 20 {
        assert!(began.elapsed() < TIMEOUT, "{read} bytes");
        match timeout(TIMEOUT, socket.next()).await.unwrap().expect("still open").unwrap() {
            Message::Binary(bytes) => read += bytes.len(),
            Message::Close(frame) => panic!("closed: {frame:?}"),
            _ => {}
        }
    }
    let (mut desktop, _ended) = stack.open(&member, &session).await;
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
}
