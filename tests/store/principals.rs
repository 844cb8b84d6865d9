//! Sessions and tickets of every kind of principal; databases from before there were principals.

use super::*;
use crate::support::db::{Backend, VaultSigner, empty_database, vault};
use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel_migrations::MigrationHarness;
use portcullis::domain::audit::Entry;
use portcullis::domain::session::{EndReason, Event};
use portcullis::domain::{ApiKeyId, LoginId};
use portcullis::store::connection::{AnyConnection, MultiBackend};
use portcullis::store::migrate::MIGRATIONS;
use portcullis::store::{SeatKey, Store};
use std::sync::Arc;

const MIGRATION: &str = "20261129190000";

fn session_of(org: OrganizationId, principal: PrincipalId, workspace: &str, n: u8) -> Session {
    let user = make_user(org, "a@example.com");
    Session {
        principal,
        principal_name: "deployment".to_owned(),
        login_id: None,
        ..make_session(&user, workspace, n)
    }
}

on_both! {
    async fn sessions_without_a_user(db) {
        let org = organization(&db).await;
        db.store.write(move |tx| {
            for (n, principal) in [(2, PrincipalId::ApiKey(ApiKeyId::new())), (3, PrincipalId::System)] {
                let session = Session { host_id: None, ..session_of(org, principal, "ws", n) };
                tx.insert_session(&session, None)?;
                assert_eq!(tx.session(session.id)?.as_ref(), Some(&session));
                assert_eq!(tx.live_session_of(principal, &session.workspace_key())?.as_ref(), Some(&session));
                assert_eq!(tx.seat_holder(&SeatKey::principal(&session.workspace_key(), principal))?, Some(session.id));
                // One session per principal and workspace, as for users.
                let second = Session { id: SessionId::new(), address: [10, 64, 0, 9].into(), ..session.clone() };
                assert_eq!(tx.insert_session(&second, None).unwrap_err().kind, portcullis::domain::ErrorKind::Conflict);
            }
            let other = PrincipalId::ApiKey(ApiKeyId::new());
            let workspace = WorkspaceKey { organization_id: org, id: WorkspaceId::parse("ws").unwrap() };
            assert_eq!(tx.live_session_of(other, &workspace)?, None);
            assert_eq!(tx.live_sessions_page(org, None, 10)?.len(), 2);
            assert_eq!(tx.live_sessions_of_workspace(&workspace)?.len(), 2);
            for session in tx.live_sessions_page(org, None, 10)? {
                let closing = session.apply(Event::Close(EndReason::Expired), later(1)).unwrap();
                assert!(tx.update_session(&closing, session.version, later(1))?);
                let closed = closing.apply(Event::Release, later(2)).unwrap();
                assert!(tx.update_session(&closed, closing.version, later(2))?);
                assert_eq!(tx.session(session.id)?, Some(closed));
            }
            assert!(tx.live_sessions()?.is_empty());
            Ok(())
        }).await.unwrap();
    }

    async fn tickets_name_their_principal(db) {
        let org = organization(&db).await;
        let ann = user(&db, org, "a@example.com").await;
        db.store.write(move |tx| {
            let session = make_session(&ann, "ws", 2);
            tx.insert_session(&session, None)?;
            for (hash, principal) in [
                ("user", PrincipalId::User(ann.id)), ("key", PrincipalId::ApiKey(ApiKeyId::new())), ("system", PrincipalId::System),
            ] {
                let ticket = make_ticket(session.id, principal);
                assert_eq!(ticket.login_id.is_some(), principal.user_id().is_some());
                tx.insert_ticket(hash, &ticket)?;
                assert_eq!(tx.ticket(hash)?, Some(ticket.clone()));
                assert!(tx.consume_ticket(hash, NOW)?);
                assert_eq!(tx.ticket(hash)?, Some(TicketRow { used_at: Some(NOW), ..ticket }));
            }
            Ok(())
        }).await.unwrap();
    }

    async fn contradictory_principals_are_refused(db) {
        let org = organization(&db).await;
        let session = session_of(org, PrincipalId::ApiKey(ApiKeyId::new()), "ws", 2);
        let id = session.id;
        db.store.write(move |tx| tx.insert_session(&session, None)).await.unwrap();
        for sql in ["principal_kind = 'user'", "principal_kind = 'nonsense'", "principal_kind = 'api_key', api_key_id = NULL"] {
            db.raw(&format!("UPDATE sessions SET {sql}"));
            assert!(db.store.read(move |tx| tx.session(id)).await.is_err(), "{sql}");
        }
    }

    async fn an_entry_of_an_api_key_verifies(db) {
        let draft = || Draft {
            actor: Actor { id: Some(ApiKeyId::new().to_string()), email: None, role: Some("member".to_owned()), kind: Some("api_key".to_owned()) },
            ..make_draft(Action::LaunchWorkspace)
        };
        db.store.write(move |tx| tx.append_audit_entry(draft())).await.unwrap();
        db.store.write(|tx| tx.append_audit_entry(make_draft(Action::Login))).await.unwrap();
        let entries = db.store.read(|tx| tx.audit_entries_after(0, 10)).await.unwrap();
        let kinds: Vec<_> = entries.iter().map(|entry| entry.actor.kind.as_deref()).collect();
        assert_eq!(kinds, [Some("api_key"), None]);
        assert_eq!(db.store.verify_chain().await.unwrap().fault, None);
        db.raw("UPDATE audit_entries SET actor_type = NULL WHERE seq = 1");
        assert!(db.store.verify_chain().await.unwrap().fault.is_some(), "the type is part of the hash");
    }
}

fn migrations() -> Vec<Box<dyn Migration<MultiBackend>>> {
    let mut all = MigrationSource::<MultiBackend>::migrations(&MIGRATIONS).unwrap();
    all.sort_by(|a, b| a.name().version().cmp(&b.name().version()));
    all
}

/// What the version before wrote: a user's active session through a tunnel, one to a direct target
/// (whose host was the nil UUID), a closed one, a ticket, requests, and two audit entries.
fn write_old_data(conn: &mut AnyConnection, entries: &[Entry]) -> Vec<String> {
    let mut ids = Vec::new();
    conn.batch_execute(
        "INSERT INTO organizations (id, name, created_at) VALUES ('5f0c1e9a-6f0e-4a58-9a54-0d8f7f0e8a11', 'Acme', 1);
         INSERT INTO users (id, organization_id, email, email_key, name, role, password_hash, disabled, created_at)
         VALUES ('0b7a8f3e-52c1-4f0d-9a1b-7f6a5c4d3e2f', '5f0c1e9a-6f0e-4a58-9a54-0d8f7f0e8a11', 'ann@example.com', 'ann@example.com', 'Ann', 'member', 'h', FALSE, 1);",
    )
    .unwrap();
    let nil = "00000000-0000-0000-0000-000000000000";
    let host = "7d7e6f5a-4b3c-4d2e-8f1a-0b9c8d7e6f5a";
    for (n, host, state, reason, status, way) in [
        (2, host, "active", "NULL", "'active'", "own"),
        (3, nil, "active", "NULL", "'active'", "direct old-box"),
        (4, host, "closed", "'expired'", "'terminated'", "own"),
    ] {
        let id = SessionId::new().to_string();
        let address = format!("10.64.0.{n}");
        conn.batch_execute(&format!(
            "INSERT INTO sessions (id, organization_id, user_id, user_email, login_id, workspace_id, workspace_name, workspace_kind, host_id, state, reason,
                status, address, created_at, started_at, ended_at, expires_at, version, way)
             VALUES ('{id}', '5f0c1e9a-6f0e-4a58-9a54-0d8f7f0e8a11', '0b7a8f3e-52c1-4f0d-9a1b-7f6a5c4d3e2f', 'ann@example.com', '9d7e6f5a-4b3c-4d2e-8f1a-0b9c8d7e6f5a',
                'ws-{n}', 'Desk', 'linux', '{host}', '{state}', {reason}, {status}, '{address}', {n}, {n}, NULL, 1000, 2, '{way}');
             INSERT INTO session_events (session_id, version, state, reason, at) VALUES ('{id}', 1, 'creating', NULL, {n});
             INSERT INTO session_events (session_id, version, state, reason, at) VALUES ('{id}', 2, '{state}', {reason}, {n});
             INSERT INTO app_request_counts (session_id, last_seq) VALUES ('{id}', 1);
             INSERT INTO app_requests (session_id, seq, at, method, path, status, bytes_in, bytes_out, duration_ms, ended)
             VALUES ('{id}', 1, {n}, 'GET', '/', 200, 1, 2, 3, 'done');
             INSERT INTO tickets (hash, session_id, user_id, login_id, expires_at)
             VALUES ('ticket {n}', '{id}', '0b7a8f3e-52c1-4f0d-9a1b-7f6a5c4d3e2f', '9d7e6f5a-4b3c-4d2e-8f1a-0b9c8d7e6f5a', 900);"
        ))
        .unwrap();
        if state == "active" {
            conn.batch_execute(&format!(
                "INSERT INTO live_sessions (session_id, organization_id, user_id, workspace_id, host_id, address, way)
                 VALUES ('{id}', '5f0c1e9a-6f0e-4a58-9a54-0d8f7f0e8a11', '0b7a8f3e-52c1-4f0d-9a1b-7f6a5c4d3e2f', 'ws-{n}', '{host}', '{address}', '{way}');
                 INSERT INTO seats (seat, session_id) VALUES ('ws-{n}/0b7a8f3e-52c1-4f0d-9a1b-7f6a5c4d3e2f', '{id}');
                 INSERT INTO session_leases (session_id, peer_public_key, psk_sealed, port, credential_sealed) VALUES ('{id}', 'k', 's', 5900, 'c');"
            ))
            .unwrap();
        }
        ids.push(id);
    }
    for entry in entries {
        let text = |value: &Option<String>| {
            value.as_ref().map_or("NULL".to_owned(), |text| format!("'{text}'"))
        };
        conn.batch_execute(&format!(
            "INSERT INTO audit_entries (seq, time, organization_id, actor_id, actor_email, actor_role, action, target_type, target_id, target_name, outcome,
                source_ip, user_agent, request_id, details, prev_hash, hash)
             VALUES ({}, {}, {}, {}, {}, {}, '{}', {}, {}, {}, '{}', {}, {}, {}, '{}', '{}', '{}')",
            entry.seq, entry.time.0, text(&entry.organization_id.map(|id| id.to_string())), text(&entry.actor.id), text(&entry.actor.email),
            text(&entry.actor.role), entry.action, text(&entry.target.kind), text(&entry.target.id), text(&entry.target.name), entry.outcome.as_str(),
            text(&entry.source_ip), text(&entry.user_agent), text(&entry.request_id), serde_json::Value::Object(entry.details.clone()),
            entry.prev_hash, entry.hash,
        ))
        .unwrap();
    }
    let last = entries.last().unwrap();
    let text = portcullis::domain::audit::Head::signed_text(last.seq, &last.hash);
    conn.batch_execute(&format!(
        "UPDATE audit_head SET seq = {}, hash = '{}', signature = '{}'",
        last.seq,
        last.hash,
        vault().sign_head(&text)
    ))
    .unwrap();
    ids
}

async fn old_data_is_kept(backend: Backend) {
    let mut db = empty_database(backend);
    let conn = &mut db.connection;
    // Creates the table that migrations are recorded in.
    assert!(conn.applied_migrations().unwrap().is_empty());
    for migration in migrations() {
        if migration.name().version().to_string().as_str() < MIGRATION {
            conn.run_migration(&migration).unwrap();
        }
    }
    let details = serde_json::json!({"a": "x"}).as_object().unwrap().clone();
    let draft = |action| Draft { details: details.clone(), ..make_draft(action) };
    let first = draft(Action::Login).chain(1, portcullis::domain::audit::GENESIS);
    let second = Draft { organization_id: None, ..draft(Action::Logout) }.chain(2, &first.hash);
    let entries = vec![first, second];
    let ids = write_old_data(conn, &entries);

    // Both ways, and again: nothing is lost.
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    while conn.applied_migrations().unwrap().iter().any(|v| v.to_string().as_str() >= MIGRATION) {
        conn.revert_last_migration(MIGRATIONS).unwrap();
    }
    let store = Store::open_with(&db.url, Arc::new(VaultSigner(vault()))).unwrap();
    store
        .write(move |tx| {
            let user = "0b7a8f3e-52c1-4f0d-9a1b-7f6a5c4d3e2f".parse().unwrap();
            let login: LoginId = "9d7e6f5a-4b3c-4d2e-8f1a-0b9c8d7e6f5a".parse().unwrap();
            let mut sessions = Vec::new();
            for id in &ids {
                sessions.push(tx.session(id.parse().unwrap())?.unwrap());
            }
            for (session, has_host) in sessions.iter().zip([true, false, true]) {
                assert_eq!(session.principal, PrincipalId::User(user));
                assert_eq!(session.user_email(), Some("ann@example.com"));
                assert_eq!(session.login_id, Some(login));
                assert_eq!(session.host_id.is_some(), has_host, "the nil UUID is gone");
                assert_eq!(tx.state_changes(session.id)?.len(), 2);
                assert_eq!(tx.app_requests(session.id, None, 10)?.len(), 1);
                assert_eq!(tx.session_lease(session.id)?.is_some(), session.state.is_live());
                let seat = SeatKey::principal(&session.workspace_key(), session.principal);
                let held = session.state.is_live().then_some(session.id);
                assert_eq!(tx.seat_holder(&seat)?, held);
            }
            let mut live: Vec<_> = tx.live_sessions_of_user(user)?.iter().map(|s| s.id).collect();
            live.reverse();
            assert_eq!(live, [sessions[0].id, sessions[1].id]);
            assert_eq!(tx.live_sessions_of_host(sessions[0].host_id.unwrap())?.len(), 1);
            for (n, session) in (2..).zip(&sessions) {
                let ticket = tx.ticket(&format!("ticket {n}"))?.unwrap();
                assert_eq!((ticket.session_id, ticket.principal), (session.id, session.principal));
                assert_eq!(ticket.login_id, Some(login));
            }
            Ok(())
        })
        .await
        .unwrap();
    // The log verifies as it was written, and goes on.
    let read = store.read(|tx| tx.audit_entries_after(0, 10)).await.unwrap();
    let bytes = |entries: &[Entry]| serde_json::to_string(entries).unwrap();
    assert_eq!(bytes(&read), bytes(&entries));
    store.write(|tx| tx.append_audit_entry(make_draft(Action::Login))).await.unwrap();
    let report = store.verify_chain().await.unwrap();
    assert_eq!((report.entries, report.fault), (3, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_data_is_kept_sqlite() {
    old_data_is_kept(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_data_is_kept_postgres() {
    old_data_is_kept(Backend::Postgres).await;
}
