//! Cut at once, at the browser's end of the real thing: whoever ends it, the close frame says why
//! and the tunnel is gone. How long that took is printed; what is asserted is that nothing on the
//! way waits for silence to be noticed.

use super::stack::{SignedInUser, Stack, TIMEOUT, WORKSPACE};
use futures_util::future::{BoxFuture, FutureExt as _};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The promise is a second, kept on a machine that is free to keep it. A busy one may take longer,
/// but not as long as an end that nobody was told of: a tunnel takes 15 s to notice that nobody
/// answers, TCP in it 20 s.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(12);

/// Who ends what.
struct RevocationFixture<'a> {
    stack: &'a Stack,
    member: SignedInUser,
    admin: SignedInUser,
    session: String,
}

type EndCase = (&'static str, fn(&RevocationFixture<'_>) -> BoxFuture<'static, (u16, Value)>);

impl RevocationFixture<'_> {
    /// A request, made but not sent.
    fn ask(
        &self,
        who: &SignedInUser,
        method: reqwest::Method,
        path: &str,
        body: Value,
    ) -> BoxFuture<'static, (u16, Value)> {
        let request = self
            .stack
            .http
            .request(method, self.stack.url(path))
            .bearer_auth(&who.token)
            .json(&body);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap_or_default())
        }
        .boxed()
    }

    fn post(
        &self,
        who: &SignedInUser,
        path: &str,
        body: Value,
    ) -> BoxFuture<'static, (u16, Value)> {
        self.ask(who, reqwest::Method::POST, path, body)
    }

    /// A command in another process.
    fn cli(&self, arguments: &[&str]) -> BoxFuture<'static, (u16, Value)> {
        let mut command = self.stack.command(arguments);
        async move {
            let done =
                tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            assert!(done.status.success(), "{done:?}");
            (200, Value::Null)
        }
        .boxed()
    }

    /// Lets the session's time be over, as another process that writes to the database would.
    fn expire(&self) -> BoxFuture<'static, (u16, Value)> {
        use diesel::prelude::*;
        let mut db =
            SqliteConnection::establish(self.stack.data().join("portcullis.db").to_str().unwrap())
                .unwrap();
        diesel::sql_query("PRAGMA busy_timeout = 5000").execute(&mut db).unwrap();
        // The lookup of live sessions has a copy of the expiry.
        for update in [
            "UPDATE sessions SET expires_at = 1 WHERE id = ?",
            "UPDATE live_sessions SET expires_at = 1 WHERE session_id = ?",
        ] {
            let changed = diesel::sql_query(update)
                .bind::<diesel::sql_types::Text, _>(&self.session)
                .execute(&mut db);
            assert_eq!(changed.unwrap(), 1);
        }
        async { (200, Value::Null) }.boxed()
    }
}

async fn set_up(stack: &Stack) -> RevocationFixture<'_> {
    let (member, admin) = (stack.sign_in("member").await, stack.sign_in("admin").await);
    let session = stack.launch(&member).await;
    RevocationFixture { stack, member, admin, session }
}

/// Ends it this way, and measures: the close frame, and the tunnel. Gives the frame.
async fn end_and_measure(
    scene: &RevocationFixture<'_>,
    what: &str,
    within: Duration,
    end: impl FnOnce(&RevocationFixture<'_>) -> BoxFuture<'static, (u16, Value)>,
) -> (u16, String) {
    let (mut desktop, ended) = scene.stack.open(&scene.member, &scene.session).await;
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
    let ending = end(scene);
    let began = Instant::now();
    let asked = tokio::spawn(ending);
    let closed = timeout(TIMEOUT, ended).await.unwrap().unwrap();
    let took = began.elapsed();
    let (status, answer) = asked.await.unwrap();
    assert_eq!(status, 200, "{what}: {answer}");
    println!("{what}: {closed:?} after {took:?}");
    assert!(took < within, "{what}: the stream ended after {took:?}");
    closed.unwrap_or_else(|| panic!("{what}: the stream broke without a word"))
}

/// The tunnels the hub knows: one is the host's.
async fn tunnels(stack: &Stack) -> u64 {
    stack.health().await.1["dependencies"]["tunnel"]["peers"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_api() {
    let ways: [EndCase; 6] = [
        ("user_disconnected", |s| {
            s.post(&s.member, &format!("/api/sessions/{}/disconnect", s.session), json!({}))
        }),
        ("workspace_stopped", |s| {
            s.post(&s.member, &format!("/api/workspaces/{WORKSPACE}/stop"), json!({}))
        }),
        ("admin_stopped", |s| {
            s.post(&s.admin, &format!("/api/admin/sessions/{}/terminate", s.session), json!({}))
        }),
        ("signed_out", |s| s.post(&s.member, "/api/auth/logout", json!({"everywhere": true}))),
        ("signed_out_by_admin", |s| {
            s.post(&s.admin, &format!("/api/users/{}/sign-out", s.member.id), json!({}))
        }),
        ("user_disabled", |s| {
            s.ask(
                &s.admin,
                reqwest::Method::PATCH,
                &format!("/api/users/{}", s.member.id),
                json!({"disabled": true}),
            )
        }),
    ];
    let stack = Stack::start().await;
    for (reason, end) in ways {
        let scene = set_up(&stack).await;
        let began = Instant::now();
        assert_eq!(
            end_and_measure(&scene, reason, REVOKE_TIMEOUT, end).await,
            (4000, reason.to_owned())
        );
        stack
            .wait_until("only the host's tunnel is left", async |stack| tunnels(stack).await == 1)
            .await;
        println!("{reason}: the tunnel was gone {:?} after everything began", began.elapsed());
        stack
            .wait_until("the desktop is gone", async |stack| stack.display_servers().is_empty())
            .await;
    }
    // The disabled user's tokens are worth nothing, and a removed workspace takes its sessions
    // along.
    let scene = RevocationFixture {
        member: stack.sign_in("other").await,
        admin: stack.sign_in("admin").await,
        session: String::new(),
        stack: &stack,
    };
    let scene = RevocationFixture { session: stack.launch(&scene.member).await, ..scene };
    let end = |s: &RevocationFixture<'_>| {
        s.ask(&s.admin, reqwest::Method::DELETE, &format!("/api/workspaces/{WORKSPACE}"), json!({}))
    };
    assert_eq!(
        end_and_measure(&scene, "workspace_removed", REVOKE_TIMEOUT, end).await,
        (4000, "workspace_removed".to_owned())
    );
    stack.assert_audit_chain_valid();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tunnel_goes_with_the_stream() {
    let stack = Stack::start().await;
    let scene = set_up(&stack).await;
    assert_eq!(tunnels(&stack).await, 2);
    let (mut desktop, ended) = stack.open(&scene.member, &scene.session).await;
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
    let began = Instant::now();
    let answer = tokio::spawn(scene.post(
        &scene.admin,
        &format!("/api/admin/sessions/{}/terminate", scene.session),
        json!({}),
    ));
    while tunnels(&stack).await != 1 {
        assert!(
            began.elapsed() < REVOKE_TIMEOUT,
            "the tunnel outlived the session by {:?}",
            began.elapsed()
        );
    }
    println!("the tunnel was gone after {:?}", began.elapsed());
    assert_eq!(
        timeout(TIMEOUT, ended).await.unwrap().unwrap(),
        Some((4000, "admin_stopped".to_owned()))
    );
    assert_eq!(answer.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_another_process_and_by_the_clock() {
    let stack = Stack::start().await;
    // The gateway learns it from the log within a quarter of a second, and that a time is over from
    // its clock; the rest is the command's own start.
    let scene = set_up(&stack).await;
    let frame = end_and_measure(&scene, "expired", REVOKE_TIMEOUT, |s| s.expire()).await;
    assert_eq!(frame, (4000, "expired".to_owned()));
    let scene = set_up(&stack).await;
    let frame = end_and_measure(&scene, "sign-out from the shell", REVOKE_TIMEOUT, |s| {
        s.cli(&["user", "sign-out", "member@example.test"])
    })
    .await;
    assert_eq!(frame, (4000, "signed_out_by_admin".to_owned()));
    let scene = set_up(&stack).await;
    let frame = end_and_measure(&scene, "stop from the shell", REVOKE_TIMEOUT, |s| {
        s.cli(&["workspace", "stop", WORKSPACE])
    })
    .await;
    assert_eq!(frame, (4000, "admin_stopped".to_owned()));
    let scene = set_up(&stack).await;
    let frame = end_and_measure(&scene, "disable from the shell", REVOKE_TIMEOUT, |s| {
        s.cli(&["user", "disable", "member@example.test"])
    })
    .await;
    assert_eq!(frame, (4000, "user_disabled".to_owned()));
    stack
        .wait_until("only the host's tunnel is left", async |stack| tunnels(stack).await == 1)
        .await;
    stack.wait_until("the desktop is gone", async |stack| stack.display_servers().is_empty()).await;
    stack.assert_audit_chain_valid();
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_here_cuts_the_stream_and_keeps_the_desktop() {
    let stack = Stack::start().await;
    let scene = set_up(&stack).await;
    let servers = stack.display_servers();
    let frame = end_and_measure(&scene, "logout", REVOKE_TIMEOUT, |s| {
        s.post(&s.member, "/api/auth/logout", json!({}))
    })
    .await;
    assert_eq!(frame, (4001, "signed_out".to_owned()));
    let again = stack.sign_in("member").await;
    assert_eq!(stack.launch(&again).await, scene.session);
    assert_eq!(stack.display_servers(), servers);
    let (mut desktop, _ended) = stack.open(&again, &scene.session).await;
    timeout(TIMEOUT, desktop.frame()).await.unwrap().unwrap();
}
