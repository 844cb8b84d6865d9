//! Of two that race, exactly one wins: many rounds each.

use super::*;
use portcullis::domain::ErrorKind;
use portcullis::store::{Challenge, ChallengePurpose, SeatKey};

const ROUNDS: u8 = 25;

/// Exactly one of the two.
fn one((a, b): (bool, bool)) {
    assert!(a ^ b, "{a} {b}");
}

on_both! {
    /// Two users want the one seat of a workspace.
    async fn single_seat(db) {
        let org = organization(&db).await;
        let users = [user(&db, org, "a@example.com").await, user(&db, org, "b@example.com").await];
        for round in 0..ROUNDS {
            let workspace = format!("ws-{round}");
            let outcome = race(|n| {
                let (store, session) = (db.store.clone(), make_session(&users[usize::from(n)], &workspace, 2 * round + n + 2));
                async move {
                    let id = session.id;
                    let seat = SeatKey::workspace(&session.workspace_key());
                    let outcome = store.write(move |tx| {
                        tx.insert_session(&session, Some(seat.clone()))?;
                        tx.append_audit_entry(make_draft(Action::CreateSession))
                    }).await;
                    match outcome {
                        Ok(_) => Some(id),
                        Err(e) => { assert_eq!(e.kind, ErrorKind::Conflict, "{e:?}"); None }
                    }
                }
            }).await;
            one((outcome.0.is_some(), outcome.1.is_some()));
            let key = SeatKey::workspace(&WorkspaceKey { organization_id: org, id: WorkspaceId::parse(&workspace).unwrap() });
            let holder = db.store.read(move |tx| tx.seat_holder(&key)).await.unwrap();
            assert_eq!(holder, outcome.0.or(outcome.1));
        }
        let live = db.store.read(|tx| tx.live_sessions()).await.unwrap();
        assert_eq!(live.len(), usize::from(ROUNDS));
        // The losers left neither rows nor audit entries.
        let verdict = db.store.verify_chain().await.unwrap();
        assert_eq!((verdict.entries, verdict.fault), (i64::from(ROUNDS), None));
    }

    /// A user launches the same workspace twice at once.
    async fn own_seat(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "a@example.com").await;
        for round in 0..ROUNDS {
            let workspace = format!("ws-{round}");
            one(race(|n| {
                let (store, session) = (db.store.clone(), make_session(&ann, &workspace, 2 * round + n + 2));
                async move { store.write(move |tx| tx.insert_session(&session, None)).await.is_ok() }
            }).await);
        }
    }

    /// Two sessions in different workspaces that were given the same address.
    async fn address(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "a@example.com").await;
        for round in 0..ROUNDS {
            one(race(|n| {
                let (store, session) = (db.store.clone(), make_session(&ann, &format!("ws-{round}-{n}"), round + 2));
                async move { store.write(move |tx| tx.insert_session(&session, None)).await.is_ok() }
            }).await);
        }
    }

    /// A session is ended twice at once.
    async fn session_version(db) {
        use portcullis::domain::session::{EndReason, Event};
        let org = organization(&db).await;
        let ann = user(&db, org, "a@example.com").await;
        for round in 0..ROUNDS {
            let session = make_session(&ann, &format!("ws-{round}"), round + 2);
            let kept = session.clone();
            db.store.write(move |tx| tx.insert_session(&kept, None)).await.unwrap();
            one(race(|n| {
                let reason = if n == 0 { EndReason::UserDisconnected } else { EndReason::AdminStopped };
                let (store, next) = (db.store.clone(), session.apply(Event::Close(reason), NOW).unwrap());
                async move { store.write(move |tx| tx.update_session(&next, 1, NOW)).await.unwrap() }
            }).await);
            let events = db.store.read(move |tx| tx.state_changes(session.id)).await.unwrap();
            assert_eq!(events.len(), 2);
        }
    }

    /// The same code of a second factor is used twice at once.
    async fn totp_step(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "a@example.com").await.id;
        db.store.write(move |tx| tx.put_totp(ann, "sealed", NOW)).await.unwrap();
        one(race(|_| {
            let store = db.store.clone();
            async move { store.write(move |tx| tx.confirm_totp(ann, 5, NOW)).await.unwrap() }
        }).await);
        for step in 6..i64::from(ROUNDS) + 6 {
            one(race(|_| {
                let store = db.store.clone();
                async move { store.write(move |tx| tx.advance_totp_step(ann, step, i64::MAX)).await.unwrap() }
            }).await);
        }
        assert!(!db.store.write(move |tx| tx.advance_totp_step(ann, 7, i64::MAX)).await.unwrap());
    }

    async fn refresh(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "a@example.com").await;
        let login = login(&db, &ann).await.id;
        for round in 0..ROUNDS {
            let hash = format!("hash {round}");
            let kept = hash.clone();
            db.store.write(move |tx| tx.insert_refresh_token(&kept, login, later(60), NOW)).await.unwrap();
            one(race(|_| {
                let (store, hash) = (db.store.clone(), hash.clone());
                async move { store.write(move |tx| tx.consume_refresh_token(&hash, NOW)).await.unwrap() }
            }).await);
        }
    }

    async fn ticket(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "a@example.com").await;
        let session = make_session(&ann, "ws", 2);
        let (id, kept) = (session.id, session.clone());
        db.store.write(move |tx| tx.insert_session(&kept, None)).await.unwrap();
        for round in 0..ROUNDS {
            let hash = format!("hash {round}");
            let kept = hash.clone();
            let ticket = make_ticket(id, PrincipalId::User(ann.id));
            db.store.write(move |tx| tx.insert_ticket(&kept, &ticket)).await.unwrap();
            one(race(|_| {
                let (store, hash) = (db.store.clone(), hash.clone());
                async move { store.write(move |tx| tx.consume_ticket(&hash, NOW)).await.unwrap() }
            }).await);
        }
    }

    async fn challenge(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "a@example.com").await.id;
        for round in 0..ROUNDS {
            let id = uuid::Uuid::new_v4();
            let challenge = Challenge {
                id, token_hash: format!("hash {round}"), user_id: ann, purpose: ChallengePurpose::Verify, tries: 0, expires_at: later(60), created_at: NOW,
            };
            db.store.write(move |tx| tx.insert_challenge(&challenge)).await.unwrap();
            one(race(|_| {
                let store = db.store.clone();
                async move { store.write(move |tx| tx.delete_challenge(id)).await.unwrap() }
            }).await);
        }
    }

    async fn join_token(db) {
        let org = organization(&db).await;
        for round in 0..ROUNDS {
            let hash = format!("hash {round}");
            let kept = hash.clone();
            db.store.write(move |tx| tx.insert_join_token(&kept, org, Some("host"), later(60), NOW)).await.unwrap();
            let (a, b) = race(|_| {
                let (store, hash) = (db.store.clone(), hash.clone());
                async move { store.write(move |tx| tx.consume_join_token(&hash, NOW)).await.unwrap() }
            }).await;
            assert_eq!(a.clone().xor(b), Some((org, Some("host".to_owned()))), "{a:?}");
        }
    }

    /// The same address is inserted twice at once, in different case.
    async fn email(db) {
        let org = organization(&db).await;
        for round in 0..ROUNDS {
            one(race(|n| {
                let email = if n == 0 { format!("Ann{round}@Example.com") } else { format!("ann{round}@example.COM") };
                let (store, user) = (db.store.clone(), make_user(org, &email));
                async move {
                    match store.write(move |tx| tx.insert_user(&user, "hash")).await {
                        Ok(()) => true,
                        Err(e) => { assert_eq!(e.kind, ErrorKind::Conflict); false }
                    }
                }
            }).await);
        }
    }
}

/// Two write transactions lock the same two rows in opposite order: PostgreSQL aborts one of them,
/// and it succeeds on retry. (SQLite has one writer: they never conflict.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlock() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let db = Db::new(crate::support::db::Backend::Postgres);
    let org = organization(&db).await;
    let users =
        [user(&db, org, "a@example.com").await.id, user(&db, org, "b@example.com").await.id];
    let (met, runs) =
        (std::sync::Arc::new(std::sync::Barrier::new(2)), std::sync::Arc::new(AtomicU32::new(0)));
    let (a, b) = race(|n| {
        let (first, second) = (users[usize::from(n)], users[usize::from(1 - n)]);
        let (store, met, runs) = (db.store.clone(), met.clone(), runs.clone());
        async move {
            store
                .write(move |tx| {
                    tx.set_last_login(first, NOW)?;
                    if runs.fetch_add(1, Ordering::SeqCst) < 2 {
                        met.wait();
                    }
                    tx.set_last_login(second, NOW)
                })
                .await
        }
    })
    .await;
    a.unwrap();
    b.unwrap();
    // Usually once; the aborted one may lock its first row again before the other continues.
    assert!(runs.load(Ordering::SeqCst) >= 3);
}
