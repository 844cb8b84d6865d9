//! `kill -9` of the gateway while somebody works: afterwards it is the same session, the same
//! desktop, and a whole log.

use super::stack::{Stack, TIMEOUT};
use crate::support::db::{Backend, empty_database};
use std::time::{Duration, Instant};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_gateway_loses_nothing_on_sqlite() {
    kill_9_of_the_gateway_loses_nothing(Stack::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_gateway_loses_nothing_on_postgres() {
    let database = empty_database(Backend::Postgres);
    kill_9_of_the_gateway_loses_nothing(Stack::with(&[("DATABASE__URL", &database.url)]).await)
        .await;
}

/// A gateway that must wait for its host to call waits this long at least: an agent that hears
/// nothing calls anew after 15 s and more.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(12);

async fn kill_9_of_the_gateway_loses_nothing(mut stack: Stack) {
    let member = stack.sign_in("member").await;
    let session = stack.launch(&member).await;
    let (mut desktop, ended) = stack.open(&member, &session).await;
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
    let before = stack.session(&member, &session).await;
    let servers = stack.display_servers();
    assert_eq!(servers.len(), 1);

    stack.gateway_kill();
    assert_eq!(
        timeout(TIMEOUT, ended).await.unwrap().unwrap(),
        None,
        "the stream broke without a word"
    );
    assert_eq!(stack.display_servers(), servers, "the desktop does not notice");

    stack.gateway_up().await;
    let up = Instant::now();
    // The login and the session are where they were.
    let after = stack.session(&member, &session).await;
    for field in ["status", "started_at", "expires_at", "ip_address", "mfa_verified"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(
        after["tunnel"]["peer_public_key"], before["tunnel"]["peer_public_key"],
        "the same tunnel"
    );
    // A browser tries again at once and gets the same desktop.
    let (mut desktop, ended) = timeout(TIMEOUT, stack.open(&member, &session)).await.unwrap();
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
    let took = up.elapsed();
    println!("a picture {took:?} after the gateway was up");
    assert!(
        took < RECONNECT_TIMEOUT,
        "it took {took:?} to have the desktop back: as if the gateway had forgotten where its host is"
    );
    assert_eq!(stack.display_servers(), servers, "the same desktop");
    assert_eq!(stack.session(&member, &session).await["tunnel_status"], "encrypted");

    // Launching again finds it; ending it works as ever.
    assert_eq!(stack.launch(&member).await, session);
    let (status, _) = stack
        .post(
            &format!("/api/sessions/{session}/disconnect"),
            Some(&member.token),
            serde_json::json!({}),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        timeout(TIMEOUT, ended).await.unwrap().unwrap(),
        Some((4000, "user_disconnected".to_owned()))
    );
    stack.wait_until("the desktop is gone", async |stack| stack.display_servers().is_empty()).await;

    let admin = stack.sign_in("admin").await;
    let actions: Vec<String> = stack
        .audit_entries(&admin, &session)
        .await
        .into_iter()
        .map(|(action, ..)| action)
        .collect();
    for action in ["launch_workspace", "open_stream", "disconnect_session", "close_session"] {
        assert!(actions.iter().any(|a| a == action), "{action} in {actions:?}");
    }
    stack.assert_audit_chain_valid();
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_everything_leaves_a_whole_log_and_no_orphan() {
    let mut stack = Stack::start().await;
    let (member, other) = (stack.sign_in("member").await, stack.sign_in("other").await);
    // Where the host is has been written down: a gateway killed in the quarter of a second before
    // that waits for the host to call, some 14 s.
    let admin = stack.sign_in("admin").await;
    let connected = async |stack: &Stack| {
        stack.get("/api/audit?action=host_connected", Some(&admin.token)).await.1["entries"][0]
            .is_object()
    };
    stack.wait_until("the host's place is kept", connected).await;
    for round in 0..3_u64 {
        // Two launches under way, and one session that is being ended.
        let url = stack.url("/api/workspaces/ws-desk/launch");
        let launch = |token: &str| {
            tokio::spawn(
                stack.http.post(&url).bearer_auth(token).json(&serde_json::json!({})).send(),
            )
        };
        let launches = [launch(&member.token), launch(&other.token)];
        tokio::time::sleep(Duration::from_millis(40 + 70 * round)).await;
        stack.gateway_kill();
        for launch in launches {
            let _ = launch.await.unwrap();
        }
        stack.gateway_up().await;
        stack.assert_audit_chain_valid();
    }
    let killed = Instant::now();
    stack
        .wait_until("the host is back", async |stack| {
            stack.health().await.1["dependencies"]["hosts"]["connected"] == 1
        })
        .await;
    println!("the host was back {:?} after the last of three restarts in a row", killed.elapsed());
    // Whatever became of them, each user has one desktop at most, and what is not a session's is
    // ended.
    let (a, b) = (stack.launch(&member).await, stack.launch(&other).await);
    stack
        .wait_until("two sessions, two desktops", async |stack| stack.display_servers().len() == 2)
        .await;
    for (person, id) in [(&member, a), (&other, b)] {
        let (status, _) = stack
            .post(
                &format!("/api/sessions/{id}/disconnect"),
                Some(&person.token),
                serde_json::json!({}),
            )
            .await;
        assert_eq!(status, 200);
    }
    stack.wait_until("no desktop is left", async |stack| stack.display_servers().is_empty()).await;
    stack.assert_audit_chain_valid();
}
