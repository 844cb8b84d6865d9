//! The chain stays intact under concurrent writers, and every manipulation is reported.

use super::*;
use portcullis::domain::audit::{ActorFilter, ChainFault, Entry};
use portcullis::store::AuditFilter;

async fn write(db: &Db, count: usize) {
    for n in 0..count {
        let draft = Draft {
            details: serde_json::json!({"n": n}).as_object().unwrap().clone(),
            ..make_draft(Action::Login)
        };
        db.store.write(move |tx| tx.append_audit_entry(draft.clone())).await.unwrap();
    }
}

async fn fault(db: &Db) -> Option<ChainFault> {
    db.store.verify_chain().await.unwrap().fault
}

on_both! {
    async fn entries_round_trip(db) {
        let entry = db.store.write(|tx| tx.append_audit_entry(make_draft(Action::LaunchWorkspace))).await.unwrap();
        assert_eq!(entry.seq, 1);
        assert_eq!(entry.hash, entry.computed_hash());
        let read = db.store.read(|tx| tx.audit_entries_after(0, 10)).await.unwrap();
        assert_eq!(read, [entry]);
        assert_eq!(db.store.read(|tx| tx.change_counter()).await.unwrap(), 1);
        let verdict = db.store.verify_chain().await.unwrap();
        assert_eq!((verdict.entries, verdict.head.seq, verdict.fault), (1, 1, None));
    }

    async fn entries_of_one_transaction_share_one_signature(db) {
        write(&db, 1).await;
        let drafts = vec![make_draft(Action::Login), make_draft(Action::Logout)];
        let entries = db.store.write(move |tx| tx.append_audit_entries(drafts.clone())).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(entries[1].prev_hash, entries[0].hash);
        let head = db.store.read(|tx| tx.audit_head()).await.unwrap();
        assert_eq!((head.seq, &head.hash), (3, &entries[1].hash));
        assert_eq!(fault(&db).await, None);
        assert!(db.store.write(|tx| tx.append_audit_entries(Vec::new())).await.unwrap().is_empty());
    }

    async fn an_empty_log_verifies(db) {
        let verdict = db.store.verify_chain().await.unwrap();
        assert_eq!((verdict.entries, verdict.head.seq, verdict.fault), (0, 0, None));
    }

    /// NUL cannot be stored by PostgreSQL: it must neither make an audit fail nor break the chain.
    async fn nul_is_replaced(db) {
        let mut draft = make_draft(Action::LoginFailed);
        draft.actor.email = Some("a\0b@example.com".to_owned());
        let entry = db.store.write(move |tx| tx.append_audit_entry(draft.clone())).await.unwrap();
        assert_eq!(entry.actor.email.as_deref(), Some("a\u{fffd}b@example.com"));
        assert_eq!(fault(&db).await, None);
    }

    /// Eight tasks through two stores on the same database.
    async fn concurrent_writers_append_to_one_chain(db) {
        let other = db.reopen();
        let tasks: Vec<_> = (0..8u8).map(|n| {
            let store = if n % 2 == 0 { db.store.clone() } else { other.clone() };
            tokio::spawn(async move {
                for _ in 0..15 {
                    store.write(|tx| { tx.append_audit_entry(make_draft(Action::Login))?; tx.append_audit_entry(make_draft(Action::Logout)) }).await.unwrap();
                }
            })
        }).collect();
        for task in tasks {
            task.await.unwrap();
        }
        let verdict = db.store.verify_chain().await.unwrap();
        assert_eq!((verdict.entries, verdict.head.seq, verdict.fault), (240, 240, None));
    }

    /// More than one page of the verifier, and a log that grows while it is read.
    async fn a_long_log_is_read_in_pages(db) {
        for _ in 0..5 {
            db.store.write(|tx| (0..500).try_for_each(|_| tx.append_audit_entry(make_draft(Action::Login)).map(drop))).await.unwrap();
        }
        let writing = tokio::spawn({ let store = db.store.clone(); async move { for _ in 0..20 { store.write(|tx| tx.append_audit_entry(make_draft(Action::Login))).await.unwrap(); } } });
        let verdict = db.store.verify_chain().await.unwrap();
        assert!(verdict.entries >= 2500);
        assert_eq!((verdict.entries, verdict.fault), (verdict.head.seq, None));
        writing.await.unwrap();
    }

    /// A transaction that fails leaves no entry.
    async fn a_failed_transaction_leaves_no_entry(db) {
        write(&db, 1).await;
        let failed = db.store.write(|tx| {
            tx.append_audit_entry(make_draft(Action::Login))?;
            Err::<(), _>(portcullis::domain::Error::conflict("no"))
        }).await;
        assert_eq!(failed.unwrap_err().message, "no");
        let verdict = db.store.verify_chain().await.unwrap();
        assert_eq!((verdict.entries, verdict.fault), (1, None));
    }

    async fn changes_are_reported(db) {
        write(&db, 6).await;
        for change in [
            "actor_email = 'eve@example.com'", "outcome = 'denied'", "outcome = 'nonsense'", "time = time + 1", "details = '{\"n\":7}'", "details = ''",
            "reason = 'x'", "actor_id = 'x'", "organization_id = 'x'", "organization_id = '00000000-0000-0000-0000-00000000000A'", "target_name = NULL",
            "hash = prev_hash", "source_ip = NULL", "session_id = ''",
        ] {
            let db = &db;
            db.raw("CREATE TABLE kept AS SELECT * FROM audit_entries WHERE seq = 4");
            db.raw(&format!("UPDATE audit_entries SET {change} WHERE seq = 4"));
            assert_eq!(fault(db).await, Some(ChainFault::Changed { seq: 4 }), "{change}");
            db.raw("DELETE FROM audit_entries WHERE seq = 4; INSERT INTO audit_entries SELECT * FROM kept; DROP TABLE kept;");
            assert_eq!(fault(db).await, None, "{change}");
        }
    }

    async fn removals_are_reported(db) {
        write(&db, 6).await;
        db.raw("DELETE FROM audit_entries WHERE seq = 3");
        assert_eq!(fault(&db).await, Some(ChainFault::Missing { seq: 3 }));
        db.raw("DELETE FROM audit_entries WHERE seq <= 3");
        assert_eq!(fault(&db).await, Some(ChainFault::Missing { seq: 1 }));
        db.raw("DELETE FROM audit_entries");
        assert_eq!(fault(&db).await, Some(ChainFault::Truncated { last: 0, expected: 6 }));
    }

    async fn truncation_is_reported(db) {
        write(&db, 6).await;
        db.raw("DELETE FROM audit_entries WHERE seq > 4");
        assert_eq!(fault(&db).await, Some(ChainFault::Truncated { last: 4, expected: 6 }));
        // A moved head needs the key.
        db.raw("UPDATE audit_head SET seq = 4, hash = (SELECT hash FROM audit_entries WHERE seq = 4)");
        assert!(matches!(fault(&db).await, Some(ChainFault::BadHead { .. })));
        db.raw("UPDATE audit_head SET signature = ''");
        assert!(matches!(fault(&db).await, Some(ChainFault::BadHead { .. })));
    }

    async fn reordering_is_reported(db) {
        write(&db, 6).await;
        db.raw("UPDATE audit_entries SET seq = 100 WHERE seq = 2; UPDATE audit_entries SET seq = 2 WHERE seq = 3; UPDATE audit_entries SET seq = 3 WHERE seq = 100;");
        assert_eq!(fault(&db).await, Some(ChainFault::Changed { seq: 2 }));
    }

    async fn inserted_entries_are_reported(db) {
        write(&db, 2).await;
        // A correctly chained entry after the end, which does not need the key.
        let last: Entry = db.store.read(|tx| tx.audit_entries_after(1, 1)).await.unwrap().remove(0);
        let forged = make_draft(Action::Logout).chain(3, &last.hash);
        let columns = "time, organization_id, actor_id, actor_email, actor_role, action, target_type, target_id, target_name, outcome, reason, source_ip, user_agent, session_id, workspace_id, request_id, details";
        db.raw(&format!("INSERT INTO audit_entries (seq, {columns}, prev_hash, hash) SELECT 3, {columns}, '{}', '{}' FROM audit_entries WHERE seq = 2", last.hash, forged.hash));
        assert_eq!(fault(&db).await, Some(ChainFault::BeyondHead { seq: 3 }));
        // The gateway does not overwrite it: it fails and rolls back.
        assert!(db.store.write(|tx| tx.append_audit_entry(make_draft(Action::Login))).await.is_err());
        db.raw("DELETE FROM audit_entries WHERE seq = 3");
        db.raw(&format!("INSERT INTO audit_entries (seq, {columns}, prev_hash, hash) SELECT 0, {columns}, prev_hash, hash FROM audit_entries WHERE seq = 1"));
        assert_eq!(fault(&db).await, Some(ChainFault::Reordered { seq: 0, expected: 1 }));
    }

    /// A changed entry with a recomputed hash breaks the next link.
    async fn rewriting_an_entry_breaks_the_next_link(db) {
        write(&db, 3).await;
        let second = db.store.read(|tx| tx.audit_entries_after(1, 1)).await.unwrap().remove(0);
        let mut rewritten = second.clone();
        rewritten.reason = Some("x".to_owned());
        rewritten.hash = rewritten.computed_hash();
        db.raw(&format!("UPDATE audit_entries SET reason = 'x', hash = '{}' WHERE seq = 2", rewritten.hash));
        assert_eq!(fault(&db).await, Some(ChainFault::BrokenLink { seq: 3 }));
    }

    async fn pages_and_filters(db) {
        let org = organization(&db).await;
        let other = organization(&db).await;
        let ann = UserId::new();
        let drafts = (0..40i64).map(|n| {
            let mut draft = make_draft(if n % 2 == 0 { Action::Login } else { Action::LaunchWorkspace });
            draft.time = Timestamp(NOW.0 + n * 1000);
            draft.organization_id = match n % 4 { 0 => None, 3 => Some(other), _ => Some(org) };
            draft.actor.id = (n % 5 == 0).then(|| ann.to_string());
            draft.outcome = if n % 10 == 1 { Outcome::Denied } else { Outcome::Success };
            draft.workspace_id = Some(format!("ws-{}", n % 3));
            draft.session_id = Some(format!("s-{n}"));
            draft.reason = (n == 22).then(|| "50%_Odd".to_owned());
            draft
        }).collect::<Vec<_>>();
        let all = drafts.clone();
        db.store.write(move |tx| drafts.clone().into_iter().try_for_each(|d| tx.append_audit_entry(d).map(drop))).await.unwrap();
        let page = async |filter: AuditFilter| -> Vec<i64> {
            let window = db.store.search(move |tx| tx.audit_window(Some(org), &filter)).await.unwrap();
            window.entries.into_iter().map(|e| e.seq).collect()
        };
        let expect = |fits: &dyn Fn(&Draft) -> bool| -> Vec<i64> {
            let mut seqs: Vec<i64> = all.iter().enumerate().filter(|(_, d)| d.organization_id == Some(org) && fits(d)).map(|(n, _)| n as i64 + 1).collect();
            seqs.reverse();
            seqs
        };
        let any = AuditFilter { limit: 100, ..AuditFilter::default() };
        assert_eq!(page(any.clone()).await, expect(&|_| true));
        assert_eq!(page(AuditFilter { actor: Some(ActorFilter::Id(ann.0)), ..any.clone() }).await, expect(&|d| d.actor.id.is_some()));
        assert_eq!(page(AuditFilter { actor: Some(ActorFilter::Email("ANN@example.com".into())), ..any.clone() }).await, expect(&|_| true));
        assert!(page(AuditFilter { actor: Some(ActorFilter::Email("nobody".into())), ..any.clone() }).await.is_empty());
        assert_eq!(page(AuditFilter { action: Some(Action::Login), ..any.clone() }).await, expect(&|d| d.action == Action::Login));
        assert_eq!(page(AuditFilter { outcome: Some(Outcome::Denied), ..any.clone() }).await, expect(&|d| d.outcome == Outcome::Denied));
        assert_eq!(page(AuditFilter { workspace_id: Some("ws-1".into()), ..any.clone() }).await, expect(&|d| d.workspace_id.as_deref() == Some("ws-1")));
        assert_eq!(page(AuditFilter { session_id: Some("s-4".into()), ..any.clone() }).await, expect(&|d| d.session_id.as_deref() == Some("s-4")));
        let (from, to) = (later(10), later(20));
        assert_eq!(page(AuditFilter { from: Some(from), to: Some(to), ..any.clone() }).await, expect(&|d| d.time >= from && d.time < to));
        assert_eq!(page(AuditFilter { q: Some("%_odD".into()), ..any.clone() }).await, expect(&|d| d.reason.is_some()));
        assert_eq!(page(AuditFilter { q: Some("192.0.2".into()), ..any.clone() }).await, expect(&|_| true));
        assert!(page(AuditFilter { q: Some("_".into()), outcome: Some(Outcome::Denied), ..any.clone() }).await.is_empty());
        // Pages of 7, each starting where the previous one ended, return every entry once.
        let (mut seen, mut before_seq) = (Vec::new(), None);
        loop {
            let part = page(AuditFilter { before_seq, limit: 7, ..AuditFilter::default() }).await;
            let Some(last) = part.last() else { break };
            before_seq = Some(*last);
            seen.extend(part);
        }
        assert_eq!(seen, expect(&|_| true));
        // Another organization sees its own entries only; the operator sees all, and those of none.
        let all_filter = any.clone();
        let (theirs, everything) = db.store.search(move |tx| {
            Ok((tx.audit_window(Some(other), &all_filter)?.entries, tx.audit_window(None, &all_filter)?.entries))
        }).await.unwrap();
        assert_eq!((theirs.len(), everything.len()), (10, 40));
        assert!(theirs.iter().all(|e| e.organization_id == Some(other)));
        let none = AuditFilter { action: Some(Action::Login), ..any.clone() };
        let operator = db.store.search(move |tx| tx.audit_window(None, &none)).await.unwrap().entries;
        assert!(operator.iter().any(|e| e.organization_id.is_none()));
    }
}
