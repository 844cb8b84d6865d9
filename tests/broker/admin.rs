//! Administration: accounts, workspaces, hosts, the log, health.

use super::fixture::*;
use base64::Engine as _;
use portcullis::broker::Settings;
use portcullis::broker::core::changes::Topic;
use portcullis::broker::core::log_search::SearchLimits;
use portcullis::broker::core::settings::Limits;
use portcullis::broker::model::*;
use portcullis::domain::audit::{
    Action, Actor, ActorFilter, ChainFault, Draft, EntryTarget, Outcome,
};
use portcullis::domain::user::Role;
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{ErrorKind, HostId, Timestamp, UserId, WorkspaceId};
use portcullis::store::search::WINDOW;
use std::time::Duration;

on_both! {
    async fn accounts_are_validated(db) {
        let fixture = BrokerFixture::new(&db).await;
        let root = fixture.caller("root", Role::Admin).await;
        let new = |email: &str, name: &str, password: &str| NewUser { email: email.into(), name: name.into(), password: secret(password), role: Role::Member };
        for (email, name, password) in [
            ("not an address", "A", PASSWORD),
            (&format!("{}@example.com", "a".repeat(300)), "A", PASSWORD),
            ("a@example.com", "", PASSWORD),
            ("a@example.com", &"n".repeat(81), PASSWORD),
            ("a@example.com", "A", "short"),
        ] {
            let answer = fixture.broker.users().create(&origin(), &root, new(email, name, password)).await;
            assert_eq!(error_kind(answer), ErrorKind::Invalid, "{email} {name} {password}");
        }
        let ann = fixture.broker.users().create(&origin(), &root, new("Ann@Example.com", " Ann ", PASSWORD)).await.unwrap();
        assert_eq!((ann.email.as_str(), ann.name.as_str()), ("Ann@Example.com", "Ann"));
        let (answer, log) = fixture.audited_during(fixture.broker.users().create(&origin(), &root, new("ANN@example.COM", "B", PASSWORD))).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Conflict, vec!["create_user denied email_taken".to_owned()]));
        // An address is one account however it is spelled.
        let spelled = fixture.broker.users().create(&origin(), &root, new("user@b\u{fc}cher.example", "U", PASSWORD)).await.unwrap();
        for spelling in ["user@xn--bcher-kva.example", "USER@B\u{dc}CHER.example", "user@bu\u{308}cher.example"] {
            let signed_in = fixture.broker.passwords().sign_in(&origin(), None, spelling, &secret(PASSWORD)).await.unwrap();
            assert!(matches!(signed_in, SignIn::Done(_)), "{spelling}");
            assert_eq!(fixture.broker.users().find_by_email(&root, spelling).await.unwrap().unwrap().id, spelled.id);
        }
        fixture.broker.users().create(&origin(), &root, new("j\u{fc}rgen@example.com", "J", PASSWORD)).await.unwrap();
        let again = fixture.broker.users().create(&origin(), &root, new("ju\u{308}rgen@example.com", "J", PASSWORD)).await;
        assert_eq!(error_kind(again), ErrorKind::Conflict);
        let change = |role, disabled| UserChange { role, disabled, ..UserChange::default() };
        for own in [change(Some(Role::Member), None), change(None, Some(true))] {
            let (answer, log) = fixture.audited_during(fixture.broker.users().update(&origin(), &root, root.user.id, own)).await;
            assert_eq!((error_kind(answer), log), (ErrorKind::Conflict, vec!["update_user denied own_account".to_owned()]));
        }
        let renamed = UserChange { name: Some("Root".into()), ..UserChange::default() };
        assert_eq!(fixture.broker.users().update(&origin(), &root, root.user.id, renamed).await.unwrap().name, "Root");
        let (answer, log) = fixture.audited_during(fixture.broker.users().update(&origin(), &root, ann.id, change(Some(Role::Security), Some(true)))).await;
        assert_eq!(answer.unwrap().role, Role::Security);
        assert_eq!(log, ["update_user success -", "disable_user success -"]);
        let (_, log) = fixture.audited_during(fixture.broker.users().update(&origin(), &root, ann.id, change(None, Some(false)))).await;
        assert_eq!(log, ["enable_user success -"]);
        let (answer, log) = fixture.audited_during(fixture.broker.users().update(&origin(), &root, UserId::new(), change(None, None))).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::NotFound, vec!["access_denied denied unknown".to_owned()]));
        assert_eq!(fixture.broker.users().list(&origin(), &root).await.unwrap().len(), 4);
        assert_eq!(fixture.broker.users().find_by_email(&root, " ann@EXAMPLE.com").await.unwrap().unwrap().id, ann.id);
    }

    async fn workspaces_are_validated(db) {
        let fixture = BrokerFixture::new(&db).await;
        let new = |id: Option<&str>, name: &str| NewWorkspace {
            id: id.map(|i| WorkspaceId::parse(i).unwrap()),
            name: name.into(),
            description: "d".into(),
            kind: WorkspaceKind::Linux,
            properties: WorkspaceChange::default(),
        };
        let create = |new| async { fixture.broker.workspaces().create(&origin(), &fixture.system, new).await };
        let first = create(new(None, "Linux Desktop")).await.unwrap().workspace;
        assert_eq!((first.id.as_str(), first.requires_mfa, first.single_seat, first.network), ("ws-linux-desktop", true, false, false));
        assert_eq!(create(new(None, "Linux Desktop")).await.unwrap().workspace.id.as_str(), "ws-linux-desktop-2");
        let (answer, log) = fixture.audited_during(create(new(Some("ws-linux-desktop"), "Other"))).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Conflict, vec!["create_workspace denied id_taken".to_owned()]));
        assert_eq!(error_kind(create(new(None, "  ")).await), ErrorKind::Invalid);
        let mut events = fixture.broker.change_feed().subscribe(&fixture.system);
        let change = WorkspaceChange { maintenance: Some(true), tags: Some(vec!["a".into(), "a".into()]), ..WorkspaceChange::default() };
        let changed = fixture.broker.workspaces().update(&origin(), &fixture.system, &first.id, change).await.unwrap();
        assert_eq!((changed.workspace.tags, changed.workspace.maintenance), (vec!["a".to_owned()], true));
        assert_eq!(events.recv().await.unwrap(), Topic::Workspaces);
        fixture.broker.workspaces().delete(&origin(), &fixture.system, &first.id).await.unwrap();
        assert_eq!(error_kind(fixture.broker.workspaces().delete(&origin(), &fixture.system, &first.id).await), ErrorKind::NotFound);
        create(new(Some("ws-linux-desktop"), "Again")).await.unwrap();
    }

    async fn join_token_enrols_one_host(db) {
        let fixture = BrokerFixture::new(&db).await;
        let root = fixture.caller("root", Role::Admin).await;
        let b64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let join = || async { fixture.broker.hosts().create_join_token(&origin(), &root, None, Duration::from_secs(60)).await.unwrap().token };
        let request = |token: &portcullis::domain::secret::SecretString, key: &str| HostEnrollment {
            token: token.clone(), name: "rack 7".into(), public_key: key.into(), version: "0.1.0".into(),
        };
        let token = join().await;
        for bad in ["", "AAAA", "not base64", &b64(&[0; 32]), &b64(&[1; 33])] {
            assert_eq!(error_kind(fixture.broker.hosts().enroll(&origin(), request(&token, bad)).await), ErrorKind::Invalid, "{bad}");
        }
        let enrolled = fixture.broker.hosts().enroll(&origin(), request(&token, &b64(&[9; 32]))).await.unwrap();
        assert_eq!(enrolled.host.name, "rack 7");
        assert_eq!(fixture.fleet.host_key(enrolled.host.id).map(|k| b64(&k)).as_ref(), Some(enrolled.preshared_key.expose()));
        let (answer, log) = fixture.audited_during(fixture.broker.hosts().enroll(&origin(), request(&token, &b64(&[8; 32])))).await;
        assert_eq!((error_kind(answer), log), (ErrorKind::Unauthenticated, vec!["enroll_host denied join_token".to_owned()]));
        assert_eq!(error_kind(fixture.broker.hosts().enroll(&origin(), request(&join().await, &b64(&[9; 32]))).await), ErrorKind::Conflict, "the key is taken");
        let late = join().await;
        fixture.clock.advance(Duration::from_secs(60));
        assert_eq!(error_kind(fixture.broker.hosts().enroll(&origin(), request(&late, &b64(&[7; 32]))).await), ErrorKind::Unauthenticated);
        let hosts = fixture.broker.hosts().list(&origin(), &root).await.unwrap();
        assert_eq!(hosts.len(), 2);
        let addresses: std::collections::HashSet<_> = hosts.iter().map(|h| h.host.address).collect();
        assert_eq!(addresses.len(), 2);
        fixture.broker.hosts().remove(&origin(), &root, enrolled.host.id).await.unwrap();
        assert_eq!(error_kind(fixture.broker.hosts().remove(&origin(), &root, enrolled.host.id).await), ErrorKind::NotFound);
        assert_eq!(error_kind(fixture.broker.hosts().remove(&origin(), &root, HostId::new()).await), ErrorKind::NotFound);
        let text = serde_json::to_string(&fixture.audit_log().await).unwrap();
        assert!(!text.contains(enrolled.preshared_key.expose()) && !text.contains("join_A"));
    }

    /// A search that takes too long answers with what it has, says how far back it came, and goes on
    /// from there. An export takes the time it needs.
    async fn searches_stop_at_their_time_limit(db) {
        let limits = Limits { searches: SearchLimits { budget: Duration::ZERO, ..SearchLimits::default() }, ..Limits::default() };
        let fixture = BrokerFixture::with(&db, Settings { limits, ..settings() }).await;
        let root = fixture.caller("root", Role::Admin).await;
        let organization = fixture.system.organization_id();
        let start = fixture.audit_log().await.len() as i64;
        let many = 2 * WINDOW as i64 + 100;
        let drafts: Vec<Draft> = (0..many).map(|n| Draft {
            time: Timestamp(n),
            organization_id: organization,
            actor: Actor::default(),
            action: Action::Login,
            target: EntryTarget { kind: None, id: None, name: (n == 10).then(|| "a needle".to_owned()) },
            outcome: Outcome::Success,
            reason: None, source_ip: None, user_agent: None, session_id: None, workspace_id: None, request_id: None,
            details: Default::default(),
        }).collect();
        fixture.store.write(move |tx| tx.append_audit_entries(drafts.clone()).map(drop)).await.unwrap();
        let sought = |cursor| AuditQuery { q: Some("needle".into()), cursor, ..AuditQuery::default() };
        let (mut cursor, mut found, mut times) = (None, Vec::new(), Vec::new());
        loop {
            let page = fixture.broker.audit().query(&origin(), &root, sought(cursor)).await.unwrap();
            assert_eq!(page.searched_to.is_some(), page.next_cursor.is_some(), "{page:?}");
            times.extend(page.searched_to);
            found.extend(page.items.iter().map(|entry| entry.seq));
            cursor = page.next_cursor;
            if cursor.is_none() { break }
        }
        assert_eq!(found, [start + 11]);
        assert_eq!(times.len(), 2, "three steps: {times:?}");
        assert!(times[0] > times[1] && times[1] > Timestamp(0), "each looks further back: {times:?}");
        let mut export = fixture.broker.audit().export_query(&origin(), &root, sought(None)).await.unwrap();
        assert_eq!(export.next().await.unwrap().len(), 1);
        assert!(export.next().await.unwrap().is_empty());
    }

    async fn audit_log_is_listed_exported_and_verified(db) {
        let fixture = BrokerFixture::new(&db).await;
        let (root, ann) = (fixture.caller("root", Role::Admin).await, fixture.caller("ann", Role::Member).await);
        for _ in 0..7 {
            let _ = fixture.broker.users().list(&origin(), &ann).await;
        }
        let page = |query: AuditQuery| async { fixture.broker.audit().query(&origin(), &root, query).await };
        let denied = || AuditQuery { action: Some(Action::AccessDenied), actor: Some(ActorFilter::Email("ANN@example.com".into())), limit: Some(3), ..AuditQuery::default() };
        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let found = page(AuditQuery { cursor: cursor.take(), ..denied() }).await.unwrap();
            seen.extend(found.items.iter().map(|e| e.seq));
            match found.next_cursor { Some(next) => cursor = Some(next), None => break }
        }
        assert_eq!(seen.len(), 7);
        assert!(seen.is_sorted_by(|a, b| a > b));
        for bad in [
            AuditQuery { limit: Some(0), ..AuditQuery::default() },
            AuditQuery { limit: Some(501), ..AuditQuery::default() },
            AuditQuery { cursor: Some("x".into()), ..AuditQuery::default() },
            AuditQuery { q: Some("q".repeat(201)), ..AuditQuery::default() },
        ] {
            assert_eq!(error_kind(page(bad).await), ErrorKind::Invalid);
        }
        let mut export = fixture.broker.audit().export(&origin(), &root).await.unwrap();
        let _ = fixture.broker.users().list(&origin(), &ann).await;
        let mut exported = Vec::new();
        loop {
            let page = export.next().await.unwrap();
            if page.is_empty() { break }
            exported.extend(page);
        }
        assert_eq!(exported.last().map(|e| e.seq()), Some(export.head.seq), "it ends where it began");
        assert_eq!(exported.last().unwrap().entry().unwrap().action, "export_audit");
        let verdict = fixture.broker.audit().verify(&origin(), &root).await.unwrap();
        assert_eq!(verdict.fault, None);
        assert!(verdict.entries > 7);
        assert_eq!(entry_summary(&fixture.audit_log().await.pop().unwrap()), "verify_audit success -");
        db.raw("UPDATE audit_entries SET reason = 'nothing' WHERE seq = 5");
        let verdict = fixture.broker.audit().verify(&origin(), &root).await.unwrap();
        assert_eq!(verdict.fault, Some(ChainFault::Changed { seq: 5 }));
        assert!(entry_summary(&fixture.audit_log().await.pop().unwrap()).starts_with("verify_audit error entry 5"));
    }

    async fn health_detects_forged_head(db) {
        let fixture = BrokerFixture::new(&db).await;
        let health = fixture.broker.health().probe().await;
        assert!(health.database.is_ok() && health.audit.unwrap() > 0);
        assert_eq!((health.hosts_connected, health.hosts_total), (1, 1));
        db.raw("UPDATE audit_head SET seq = seq - 1");
        assert_eq!(fixture.broker.health().probe().await.audit, Err("tampered".into()));
    }

    async fn no_change_without_audit(db) {
        let fixture = BrokerFixture::new(&db).await;
        let ws = fixture.workspace("ws-a", WorkspaceChange::default()).await;
        let ann = fixture.caller("ann", Role::Member).await;
        let session = fixture.launch(&ann, &ws).await;
        let grant = fixture.open_stream(&ann, session.id).await;
        db.raw("ALTER TABLE audit_entries RENAME TO gone");
        assert!(fixture.broker.sessions().disconnect(&origin(), &ann, session.id).await.is_err());
        assert!(fixture.broker.streams().issue_ticket(&origin(), &ann, session.id).await.is_err());
        assert!(fixture.broker.streams().open(&origin(), session.id, StreamProof::Principal(&ann)).await.is_err());
        assert!(fixture.broker.passwords().sign_in(&origin(), None, "ann@example.com", &secret(PASSWORD)).await.is_err());
        assert!(fixture.broker.users().list(&origin(), &ann).await.is_err());
        db.raw("ALTER TABLE gone RENAME TO audit_entries");
        assert_eq!(fixture.stored_session(session.id).await, session);
        assert!(fixture.fleet.has_tunnel(session.id) && !fixture.fleet.was_cut(session.id));
        assert_eq!(fixture.broker.sessions().get(&ann, session.id).await.unwrap().viewers, 1);
        drop(grant);
        fixture.assert_chain_valid().await;
    }
}
