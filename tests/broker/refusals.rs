//! What one principal is refused cannot fill the audit log.

use super::fixture::*;
use portcullis::broker::model::*;
use portcullis::domain::audit::Entry;
use portcullis::domain::user::Role;
use portcullis::domain::{SessionId, WorkspaceId};
use std::time::Duration;

/// More than the limit of one action lets through.
const MANY: usize = 400;
/// The limit at one moment, and a few that a transaction may add.
const LIMIT: usize = 100;

fn of(log: &[Entry], email: &str, action: &str) -> usize {
    let of = |e: &&Entry| e.actor.email.as_deref() == Some(email) && e.action == action;
    log.iter().filter(of).count()
}

on_both! {
    async fn refusals_of_one_user_are_limited_and_counted(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (ann, bob) = (fixture.caller("ann", Role::Member).await, fixture.caller("bob", Role::Member).await);
        // By the policy alone, by an unknown id, and inside a transaction.
        let unknown = WorkspaceId::parse("nowhere").unwrap();
        for n in 0..MANY {
            match n % 4 {
                0 => drop(fixture.broker.users().list(&origin(), &ann).await.unwrap_err()),
                1 => drop(fixture.broker.launcher().launch(&origin(), &ann, &unknown).await.unwrap_err()),
                2 => drop(fixture.broker.sessions().get(&ann, SessionId::new()).await.unwrap_err()),
                _ => drop(fixture.broker.sessions().disconnect(&origin(), &ann, SessionId::new()).await.unwrap_err()),
            }
        }
        let log = fixture.audit_log().await;
        assert_eq!(of(&log, "ann@example.com", "access_denied"), LIMIT);
        // Nobody else's are left out for that, nor hers of another kind.
        fixture.broker.users().list(&origin(), &bob).await.unwrap_err();
        assert_eq!(of(&fixture.audit_log().await, "bob@example.com", "access_denied"), 1);
        fixture.sign_in("ann").await;
        assert_eq!(of(&fixture.audit_log().await, "ann@example.com", "login"), 2);
        // The next one says how many were left out, once.
        fixture.clock.advance(Duration::from_secs(41));
        for left_out in [Some((MANY - LIMIT) as u64), None] {
            fixture.broker.users().list(&origin(), &ann).await.unwrap_err();
            let last = fixture.audit_log().await.pop().unwrap();
            assert_eq!(last.action, "access_denied");
            assert_eq!(last.details.get("left_out_before").and_then(serde_json::Value::as_u64), left_out);
        }
        fixture.assert_chain_valid().await;
    }

    async fn refusals_inside_transactions_are_counted_once(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let unknown = WorkspaceId::parse("nowhere").unwrap();
        let from = origin();
        // At once, so that transactions run again where the database makes them.
        let tries = (0..MANY).map(|_| fixture.broker.launcher().launch(&from, &ann, &unknown));
        for answer in futures_util::future::join_all(tries).await {
            answer.unwrap_err();
        }
        let written = of(&fixture.audit_log().await, "ann@example.com", "access_denied");
        assert!((LIMIT - 20..=LIMIT).contains(&written), "{written}");
        fixture.clock.advance(Duration::from_secs(3600));
        fixture.broker.launcher().launch(&origin(), &ann, &unknown).await.unwrap_err();
        let last = fixture.audit_log().await.pop().unwrap();
        assert_eq!(last.details["left_out_before"].as_u64(), Some((MANY - written) as u64));
    }

    async fn a_used_refresh_token_that_is_replayed_fills_no_log(db) {
        let fixture = BrokerFixture::new(&db).await;
        fixture.user("ann", Role::Member).await;
        let tokens = fixture.sign_in("ann").await;
        fixture.broker.logins().refresh(&origin(), &tokens.refresh_token, None).await.unwrap();
        for _ in 0..MANY {
            fixture.broker.logins().refresh(&origin(), &tokens.refresh_token, None).await.unwrap_err();
        }
        let log = fixture.audit_log().await;
        assert_eq!(of(&log, "ann@example.com", "refresh_reuse"), LIMIT + 1, "the first one, which ended the login, and a share");
        assert!(!fixture.login_alive(tokens.caller.login_id).await);
    }

    async fn a_refusal_says_what_was_tried_on_what_and_which_rule_refused_it(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (sam, alex) = (fixture.caller("sam", Role::Security).await, fixture.caller("alex", Role::Member).await);
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let session = fixture.launch(&alex, &ws).await;
        let (broker, from) = (&fixture.broker, origin());
        let disable = |off| UserChange { disabled: Some(off), ..UserChange::default() };
        let before = fixture.audit_log().await.len();
        broker.users().reset_mfa(&from, &sam, alex.user.id).await.unwrap_err();
        broker.users().update(&from, &sam, alex.user.id, disable(true)).await.unwrap_err();
        broker.users().update(&from, &sam, alex.user.id, disable(false)).await.unwrap_err();
        broker.users().sign_out(&from, &sam, alex.user.id).await.unwrap_err();
        broker.workspaces().update(&from, &sam, &ws, WorkspaceChange::default()).await.unwrap_err();
        broker.workspaces().delete(&from, &sam, &ws).await.unwrap_err();
        broker.sessions().terminate(&from, &sam, session.id).await.unwrap_err();
        broker.hosts().remove(&from, &sam, fixture.host).await.unwrap_err();
        broker.hosts().set_drained(&from, &sam, fixture.host, true).await.unwrap_err();
        broker.sessions().disconnect(&from, &sam, session.id).await.unwrap_err();
        broker.users().list(&from, &alex).await.unwrap_err();
        let log = fixture.audit_log().await;
        let text = |value: Option<&serde_json::Value>| value.and_then(|v| v.as_str()).unwrap_or("-").to_owned();
        let written: Vec<String> = log[before..].iter().map(|e| {
            assert_eq!((e.action.as_str(), e.outcome.as_str()), ("access_denied", "denied"));
            let (kind, name) = (e.target.kind.as_deref().unwrap_or("-"), e.target.name.as_deref().unwrap_or("-"));
            format!("{} of {kind} {name}: {}, {}", text(e.details.get("act")), text(e.details.get("rule")), e.reason.as_deref().unwrap_or("-"))
        }).collect();
        assert_eq!(written, [
            "mfa_reset of user alex@example.com: manage_users, role",
            "disable_user of user alex@example.com: manage_users, role",
            "enable_user of user alex@example.com: manage_users, role",
            "sign_out_user of user alex@example.com: manage_users, role",
            "update_workspace of workspace -: manage_workspaces, role",
            "delete_workspace of workspace -: manage_workspaces, role",
            "terminate_session of session ws-a: terminate_sessions, role",
            "remove_host of host host-1: manage_hosts, role",
            "drain_host of host host-1: manage_hosts, role",
            "disconnect_session of session ws-a: -, not_theirs",
            "- of users -: read_users, role",
        ]);
        assert_eq!(log[before].target.id.as_deref(), Some(alex.user.id.to_string().as_str()));
        // Of another organization nothing is named.
        let other = portcullis::domain::UserId::new();
        broker.users().reset_mfa(&from, &sam, other).await.unwrap_err();
        let last = fixture.audit_log().await.pop().unwrap();
        assert_eq!((last.target.id, last.target.name), (Some(other.to_string()), None));
    }
}
