//! Sessions: seats, states, addresses, leases and pages.

use super::*;
use portcullis::domain::ErrorKind;
use portcullis::domain::session::{EndReason, Event, SessionFilter};
use portcullis::domain::user::{Mfa, MfaMethod};
use portcullis::store::{LeaseRow, SeatKey};
use std::collections::HashSet;

fn lease() -> LeaseRow {
    LeaseRow {
        peer_public_key: "key".into(),
        psk_sealed: "psk".into(),
        port: 5901,
        credential_sealed: "cred".into(),
        certificate: Some("ab".repeat(32)),
    }
}

on_both! {
    async fn state_changes_of_a_session(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "ann@example.com").await;
        db.store.write(move |tx| {
            let session = Session { mfa: Some(Mfa { method: MfaMethod::Totp, verified_at: NOW }), ..make_session(&ann, "ws-one", 2) };
            tx.insert_session(&session, None)?;
            assert_eq!(tx.session(session.id)?, Some(session.clone()));
            assert_eq!(tx.session(SessionId::new())?, None);
            assert_eq!(tx.live_session_of(PrincipalId::User(ann.id), &session.workspace_key())?, Some(session.clone()));
            assert_eq!(tx.sessions_page(ann.id, SessionFilter::Any, None, 10)?, [], "not listed yet");

            assert_eq!(tx.session_lease(session.id)?, None);
            tx.set_session_lease(session.id, &lease())?;
            tx.set_session_lease(session.id, &lease())?;
            assert_eq!(tx.session_lease(session.id)?, Some(lease()));

            let active = session.apply(Event::Ready, later(1)).unwrap();
            assert!(!tx.update_session(&active, 7, later(1))?, "another version");
            assert!(tx.update_session(&active, session.version, later(1))?);
            assert!(!tx.update_session(&active, session.version, later(1))?, "only once");
            let active = Session { peer_public_key: Some("key".into()), ..active };
            assert_eq!(tx.session(session.id)?, Some(active.clone()), "the key of the lease stays known");
            assert_eq!(tx.live_sessions_page(org, None, 10)?, std::slice::from_ref(&active));
            assert_eq!(tx.live_sessions_page(OrganizationId::new(), None, 10)?, []);
            assert_eq!(tx.live_sessions_of_user(ann.id)?, std::slice::from_ref(&active));
            assert_eq!(tx.live_sessions_of_host(session.host_id.unwrap())?, std::slice::from_ref(&active));
            assert_eq!(tx.live_sessions_of_workspace(&session.workspace_key())?, std::slice::from_ref(&active));
            assert_eq!(tx.sessions_page(ann.id, SessionFilter::Active, None, 10)?, std::slice::from_ref(&active));

            let closing = active.apply(Event::Close(EndReason::UserDisconnected), later(2)).unwrap();
            assert!(tx.update_session(&closing, active.version, later(2))?);
            const DISCONNECTED: SessionFilter = SessionFilter::Ended(&[EndReason::UserDisconnected]);
            const OTHERS: SessionFilter = SessionFilter::Ended(&[EndReason::Expired, EndReason::HostLost]);
            assert_eq!(tx.sessions_page(ann.id, SessionFilter::Active, None, 10)?, [], "a closing session is not active");
            for filter in [SessionFilter::Any, DISCONNECTED] {
                assert_eq!(tx.sessions_page(ann.id, filter, None, 10)?, std::slice::from_ref(&closing), "{filter:?}");
            }
            let closed = closing.apply(Event::Release, later(3)).unwrap();
            assert!(tx.update_session(&closed, closing.version, later(3))?);
            assert_eq!(tx.session(session.id)?, Some(closed.clone()));
            assert_eq!(tx.live_session_of(PrincipalId::User(ann.id), &session.workspace_key())?, None);
            assert_eq!(tx.session_lease(session.id)?, None, "its secrets are gone");
            assert_eq!(tx.seat_holder(&SeatKey::principal(&session.workspace_key(), session.principal))?, None);
            for filter in [SessionFilter::Any, DISCONNECTED] {
                assert_eq!(tx.sessions_page(ann.id, filter, None, 10)?, std::slice::from_ref(&closed), "{filter:?}");
            }
            for filter in [SessionFilter::Active, OTHERS, SessionFilter::Ended(&[])] {
                assert_eq!(tx.sessions_page(ann.id, filter, None, 10)?, [], "{filter:?}");
            }

            let history: Vec<_> = tx.state_changes(session.id)?.into_iter().map(|e| (e.version, e.state, e.at)).collect();
            assert_eq!(history, [
                (1, State::Creating, NOW),
                (2, State::Active, later(1)),
                (3, State::Closing(EndReason::UserDisconnected), later(2)),
                (4, State::Closed(EndReason::UserDisconnected), later(3)),
            ]);
            Ok(())
        }).await.unwrap();
    }

    async fn seats_are_released(db) {
        let org = organization(&db).await;
        let (ann, bob) = (user(&db, org, "ann@example.com").await, user(&db, org, "bob@example.com").await);
        db.store.write(move |tx| {
            let first = make_session(&ann, "ws", 2);
            let seat = SeatKey::workspace(&first.workspace_key());
            tx.insert_session(&first, Some(seat.clone()))?;
            let taken = tx.insert_session(&make_session(&bob, "ws", 3), Some(seat.clone())).unwrap_err();
            assert_eq!((taken.kind, &*taken.message), (ErrorKind::Conflict, "This workspace is in use by somebody else."));
            let twice = tx.insert_session(&make_session(&ann, "ws", 3), None).unwrap_err();
            assert_eq!((twice.kind, &*twice.message), (ErrorKind::Conflict, "There is already a session in this workspace."));
            let address = tx.insert_session(&make_session(&bob, "other", 2), None).unwrap_err();
            assert_eq!(address.kind, ErrorKind::Conflict);
            assert_eq!(tx.live_sessions()?.len(), 1, "a refused session leaves nothing");
            // Released before it is closed: the seat is free, the address is not.
            tx.release_seats(first.id)?;
            assert_eq!(tx.seat_holder(&seat)?, None);
            assert!(tx.insert_session(&make_session(&bob, "ws", 2), Some(seat.clone())).is_err());
            let second = make_session(&bob, "ws", 3);
            tx.insert_session(&second, Some(seat.clone()))?;
            assert_eq!(tx.seat_holder(&seat)?, Some(second.id));
            // Closing the first does not touch the second's seat.
            let closing = first.apply(Event::Close(EndReason::Expired), NOW).unwrap();
            assert!(tx.update_session(&closing, first.version, NOW)?);
            assert!(tx.update_session(&closing.apply(Event::Release, NOW).unwrap(), closing.version, NOW)?);
            assert_eq!(tx.seat_holder(&seat)?, Some(second.id));
            tx.insert_session(&make_session(&ann, "ws-2", 2), None)?;
            Ok(())
        }).await.unwrap();
    }

    async fn addresses(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "ann@example.com").await;
        db.store.write(move |tx| {
            let network = ("10.64.0.0".parse().unwrap(), 28);
            let mut given = std::collections::BTreeSet::new();
            for n in 0..13u8 {
                let address = tx.free_session_address(network, u64::from(n) * 7919)?;
                assert!(given.insert(address), "{address} twice");
                tx.insert_session(&Session { address, ..make_session(&ann, &format!("ws-{n}"), 0) }, None)?;
            }
            assert_eq!(given.first().unwrap().to_string(), "10.64.0.2");
            assert_eq!(given.last().unwrap().to_string(), "10.64.0.14");
            assert_eq!(tx.free_session_address(network, 1).unwrap_err().kind, ErrorKind::Unavailable);
            assert!(tx.free_session_address(("10.64.0.0".parse().unwrap(), 10), u64::MAX).is_ok());
            assert!(tx.free_session_address(("10.64.0.0".parse().unwrap(), 32), 0).is_err());
            Ok(())
        }).await.unwrap();
    }

    async fn expiry_and_states(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "ann@example.com").await;
        db.store.write(move |tx| {
            let sessions: Vec<Session> = (0..4u8).map(|n| Session {
                state: if n == 3 { State::Queued } else { State::Creating },
                expires_at: later(100 - u64::from(n)),
                created_at: later(u64::from(n)),
                ..make_session(&ann, &format!("ws-{n}"), n + 2)
            }).collect();
            for session in &sessions { tx.insert_session(session, None)?; }
            let ids = |found: Vec<Session>| found.into_iter().map(|s| s.id).collect::<Vec<_>>();
            assert!(tx.expired_sessions(later(96), 10)?.is_empty());
            assert_eq!(ids(tx.expired_sessions(later(98), 10)?), [sessions[3].id, sessions[2].id]);
            assert_eq!(ids(tx.expired_sessions(later(100), 1)?), [sessions[3].id]);
            let closing = sessions[3].apply(Event::Close(EndReason::Expired), NOW).unwrap();
            assert!(tx.update_session(&closing, 1, NOW)?);
            assert_eq!(ids(tx.expired_sessions(later(98), 10)?), [sessions[2].id], "not what is closing already");
            assert_eq!(ids(tx.live_sessions_in_states(&["queued", "closing"], 10)?), [sessions[3].id]);
            assert_eq!(ids(tx.live_sessions_in_states(&["creating", "closing"], 3)?), [sessions[0].id, sessions[1].id, sessions[2].id]);
            assert!(tx.live_sessions_in_states(&[], 3)?.is_empty());
            Ok(())
        }).await.unwrap();
    }

    async fn pages(db) {
        let org = organization(&db).await;
        let (ann, bob) = (user(&db, org, "ann@example.com").await, user(&db, org, "bob@example.com").await);
        let rival = organization(&db).await;
        let eve = user(&db, rival, "eve@example.com").await;
        db.store.write(move |tx| {
            // Five timestamps with five sessions each: within one, the id decides the order.
            let mut all = Vec::new();
            for n in 0..25u8 {
                let session = Session { created_at: later(u64::from(n / 5)), ..make_session(&ann, &format!("ws-{n}"), n + 2) };
                tx.insert_session(&session, None)?;
                let active = session.apply(Event::Ready, later(50)).unwrap();
                assert!(tx.update_session(&active, 1, later(50))?);
                all.push(active);
            }
            let foreign = make_session(&bob, "ws-0", 200);
            tx.insert_session(&foreign, None)?;
            all.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.id.to_string())));
            for filter in [SessionFilter::Any, SessionFilter::Active] {
                let (mut seen, mut before) = (Vec::new(), None);
                loop {
                    let page = tx.sessions_page(ann.id, filter, before, 4)?;
                    let Some(last) = page.last() else { break };
                    before = Some((last.created_at, last.id));
                    seen.extend(page);
                }
                assert_eq!(seen, all);
            }

            // The live ones of the organization: of all its users, and of nobody else.
            tx.insert_session(&make_session(&eve, "ws-0", 201), None)?;
            let ended = all.remove(12);
            let closing = ended.apply(Event::Close(EndReason::Expired), later(60)).unwrap();
            assert!(tx.update_session(&closing, ended.version, later(60))?);
            assert!(tx.update_session(&closing.apply(Event::Release, later(61)).unwrap(), closing.version, later(61))?);
            all.push(foreign);
            all.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.id.to_string())));
            let (mut seen, mut before) = (Vec::new(), None);
            loop {
                let page = tx.live_sessions_page(org, before, 4)?;
                assert!(page.len() <= 4);
                let Some(last) = page.last() else { break };
                before = Some((last.created_at, last.id));
                seen.extend(page);
            }
            assert_eq!(seen, all);
            let key = |organization_id, id| WorkspaceKey { organization_id, id: WorkspaceId::parse(id).unwrap() };
            let (one, none) = (key(org, "ws-0"), key(org, "ws-none"));
            let elsewhere = key(OrganizationId::new(), "ws-1");
            let mut ids = tx.live_session_ids(&[one.clone(), none, elsewhere.clone()].into())?;
            assert!(tx.live_sessions_of_workspace(&elsewhere)?.is_empty());
            let mut expected: Vec<_> = tx.live_sessions_of_workspace(&one)?.iter().map(|s| s.id).collect();
            ids.sort();
            expected.sort();
            assert_eq!((ids.len(), &ids), (2, &expected), "none of another organization's workspace of that id");
            assert!(tx.live_session_ids(&HashSet::new())?.is_empty());
            Ok(())
        }).await.unwrap();
    }
}
