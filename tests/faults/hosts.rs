//! A host that vanishes, and one that freezes.

use super::stack::{Stack, TIMEOUT};
use rustix::process::Signal;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_vanishes_and_comes_back_has_lost_its_desktops() {
    let mut stack = Stack::start().await;
    let member = stack.sign_in("member").await;
    let session = stack.launch(&member).await;
    let (mut desktop, ended) = stack.open(&member, &session).await;
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
    let servers = stack.display_servers();

    stack.agent_kill();
    stack.agent_up().await;
    assert_eq!(
        timeout(TIMEOUT, ended).await.unwrap().unwrap(),
        Some((4000, "host_restarted".to_owned()))
    );
    assert!(
        servers.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()),
        "no desktop outlives its agent"
    );
    stack
        .wait_until("the session ended", async |stack| {
            stack.session(&member, &session).await["status"] == "terminated"
        })
        .await;
    assert_eq!(stack.session(&member, &session).await["end_reason"], "host_restarted");

    // The host serves again.
    let again = stack.launch(&member).await;
    assert_ne!(again, session);
    let (mut desktop, _) = stack.open(&member, &again).await;
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
    stack.assert_audit_chain_valid();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stays_away_costs_its_sessions_after_the_grace() {
    let mut stack = Stack::with(&[("SESSIONS__GRACE", "10s")]).await;
    let member = stack.sign_in("member").await;
    let session = stack.launch(&member).await;
    let (mut desktop, ended) = stack.open(&member, &session).await;
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();

    stack.agent_kill();
    let closed = timeout(TIMEOUT, ended).await.unwrap().unwrap();
    // The tunnel's own patience and the grace end at about the same time here; either is told
    // clearly.
    assert!(
        closed == Some((4000, "host_lost".to_owned()))
            || closed == Some((4002, "retry".to_owned())),
        "{closed:?}"
    );
    stack
        .wait_until("the session ended", async |stack| {
            stack.session(&member, &session).await["status"] == "terminated"
        })
        .await;
    let seen = stack.session(&member, &session).await;
    assert_eq!(
        (&seen["end_reason"], &seen["tunnel_status"]),
        (&"host_lost".into(), &"down".into())
    );
    let refused = stack.ticket(&member, &session).await.unwrap_err();
    assert_eq!(refused.0, 409, "{refused:?}");
    let (status, refused) = stack
        .post("/api/workspaces/ws-desk/launch", Some(&member.token), serde_json::json!({}))
        .await;
    assert_eq!(status, 503, "{refused}");
    let admin = stack.sign_in("admin").await;
    let log = stack.audit_entries(&admin, &session).await;
    assert!(
        log.contains(&("terminate_session".into(), "success".into(), "host_lost".into())),
        "{log:?}"
    );
    stack.assert_audit_chain_valid();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_agent_is_stale_and_recovers() {
    let stack = Stack::start().await;
    let member = stack.sign_in("member").await;
    let session = stack.launch(&member).await;
    assert_eq!(stack.session(&member, &session).await["tunnel_status"], "encrypted");
    let servers = stack.display_servers();

    // No stream is open: nothing goes through the session's own tunnel that could remain
    // unanswered.
    stack.agent_signal(Signal::STOP);
    let frozen = std::time::Instant::now();
    stack
        .wait_until("the tunnel is stale", async |stack| {
            stack.session(&member, &session).await["tunnel_status"] == "stale"
        })
        .await;
    println!("stale {:?} after the agent froze", frozen.elapsed());
    let seen = stack.session(&member, &session).await;
    assert_eq!(seen["status"], "active", "it is not given up: {seen}");
    // The host has a tunnel of its own with timers of its own: it falls silent at about the same
    // time, not at the same instant.
    stack
        .wait_until("the host is missed", async |stack| {
            stack.health().await.1["dependencies"]["hosts"]["connected"] == 0
        })
        .await;
    let (status, health) = stack.health().await;
    assert_eq!((status, &health["status"]), (200, &"degraded".into()), "{health}");
    stack
        .wait_until("the tile says so", async |stack| {
            stack.get("/api/workspaces/ws-desk", Some(&member.token)).await.1["status"] == "offline"
        })
        .await;

    stack.agent_signal(Signal::CONT);
    stack
        .wait_until("the tunnel is encrypted", async |stack| {
            stack.session(&member, &session).await["tunnel_status"] == "encrypted"
        })
        .await;
    assert_eq!(stack.display_servers(), servers);
    let (mut desktop, _ended) = timeout(TIMEOUT, stack.open(&member, &session)).await.unwrap();
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
}
