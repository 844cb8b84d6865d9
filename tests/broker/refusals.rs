//! What one principal is refused cannot fill the audit log.

use super::fixture::*;
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
}
