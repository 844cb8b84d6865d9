//! The audit log over HTTP: pages, filters, export, verification.

use crate::support::app::{TestApp, WORKSPACE};
use portcullis::auth;
use portcullis::domain::audit::{ExportedEntry, Head, Verifier};
use serde_json::{Value, json};

on_both! {
    async fn pages_and_filters(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
        let security = app.signed_in("security").await;
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = security.get(&format!("/api/audit?limit=5&cursor={cursor}")).await;
            assert_eq!(page.status, 200, "{}", page.body);
            let page = page.json();
            seen.extend(page["entries"].as_array().unwrap().iter().map(|e| e["seq"].as_i64().unwrap()));
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
            assert!(seen.len() < 200);
        }
        assert!(seen.len() > 10 && seen.windows(2).all(|w| w[0] > w[1]), "newest first, nothing twice: {seen:?}");

        // What is added later is found by the number of the newest entry, and nothing else.
        let page = security.get("/api/audit?limit=1").await.json();
        assert_eq!((&page["searched_to"], page["newest_seq"].as_i64()), (&Value::Null, Some(seen[0])));
        let later = async |filter: &str| {
            let found = security.get(&format!("/api/audit?after={}{filter}", seen[0])).await.json();
            found["entries"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert!(later("").await.is_empty());
        assert_eq!(member.get("/api/audit").await.status, 403);
        assert_eq!(later("").await, ["access_denied"]);
        assert_eq!(later("&outcome=success").await, [""; 0]);

        let launches = app.audit_entries(&format!("action=launch_workspace&workspace_id={WORKSPACE}&outcome=success")).await;
        assert_eq!(launches.len(), 1);
        let entry = &launches[0];
        assert_eq!((&entry["actor"]["email"], &entry["actor"]["role"]), (&json!("member@example.test"), &json!("member")));
        assert_eq!(entry["source_ip"], "127.0.0.1");
        assert!(entry["session_id"].is_string() && entry["request_id"].is_string());
        assert_eq!(app.audit_entries("actor=member@example.test&action=launch_workspace").await.len(), 1);
        assert!(app.audit_entries("from=2999-01-01T00:00:00Z").await.is_empty());
        assert!(!app.audit_entries("q=member@example").await.is_empty());
        for bad in ["limit=0", "limit=501", "from=yesterday", "outcome=maybe", "cursor=x"] {
            let answer = security.get(&format!("/api/audit?{bad}")).await;
            assert_eq!(answer.status, 422, "{bad}: {}", answer.body);
            assert_eq!(member.get(&format!("/api/audit?{bad}")).await.status, 403, "who may not read it is not told what is wrong");
        }
    }
}

on_both! {
    async fn an_export_can_be_verified(db) {
        let app = TestApp::start(db).await;
        let admin = app.signed_in("admin").await;
        let export = admin.get("/api/audit/export?format=jsonl").await;
        assert_eq!(export.status, 200, "{}", export.body);
        assert_eq!(export.header("content-type"), "application/x-ndjson");
        assert!(export.header("content-disposition").contains("attachment"));
        let mut lines: Vec<&str> = export.body.lines().collect();
        let last: Value = serde_json::from_str(lines.pop().unwrap()).unwrap();
        let mut verifier = Verifier::default();
        for line in &lines {
            match serde_json::from_str::<ExportedEntry>(line).unwrap() {
                ExportedEntry::Entry(entry) => verifier.push(&entry).unwrap(),
                ExportedEntry::Withheld(entry) => verifier.push_withheld(&entry).unwrap(),
            }
        }
        let head: Head = serde_json::from_value(last["head"].clone()).unwrap();
        verifier.finish(&head).unwrap();
        let text = Head::signed_text(head.seq, &head.hash);
        assert!(auth::vault::verify_head_with(last["public_key"].as_str().unwrap(), &text, &head.signature));
        assert!(lines.iter().any(|l| l.contains("\"export_audit\"")), "the export itself is in it");

        let verdict = admin.get("/api/audit/verify").await.json();
        assert_eq!((&verdict["ok"], &verdict["first_error"]), (&json!(true), &Value::Null));
        assert!(verdict["entries"].as_i64().unwrap() >= lines.len() as i64);
        assert_eq!(admin.get("/api/audit/export?format=xml").await.status, 422);
    }
}

on_both! {
    async fn an_export_has_the_entries_of_the_listing(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
        let security = app.signed_in("security").await;
        let filter = "actor=member@example.test&outcome=success";
        let shown = app.audit_entries(filter).await;
        let export = security.get(&format!("/api/audit/export?format=jsonl&{filter}&q=")).await;
        assert_eq!(export.status, 200, "{}", export.body);
        let lines: Vec<Value> = export.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seqs = |list: &[Value]| list.iter().map(|e| e["seq"].as_i64().unwrap()).collect::<Vec<_>>();
        assert_eq!(seqs(&lines), seqs(&shown), "the same entries in the same order, and no head: it is not the whole log");
        assert!(lines.len() > 2);
        let table = security.get("/api/audit/export?format=csv&action=launch_workspace").await;
        assert_eq!(table.body.lines().count(), 2, "{}", table.body);
        assert_eq!(security.get("/api/audit/export?format=csv&from=2999-01-01T00:00:00Z").await.body.lines().count(), 1);
        let noted = app.audit_entries("action=export_audit").await;
        assert!(noted.iter().any(|e| e["details"] == json!({"actor": "member@example.test", "outcome": "success"})), "{noted:?}");
        assert_eq!(security.get("/api/audit/export?action=nonsense").await.status, 422);
        assert_eq!(member.get("/api/audit/export?action=nonsense").await.status, 403);
        assert_eq!(member.get(&format!("/api/audit/export?{filter}")).await.status, 403);
    }
}

on_both! {
    async fn csv_cells_are_no_formulas(db) {
        let app = TestApp::start(db).await;
        let evil = app.anonymous().header("user-agent", "=HYPERLINK(\"http://evil.example\")");
        evil.post("/api/auth/login", json!({"email": "member@example.test", "password": "x"})).await;
        let admin = app.signed_in("admin").await;
        let made = admin.post("/api/workspaces", json!({"id": "ws-evil", "name": "=1+1", "type": "linux"})).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let export = app.signed_in("admin").await.get("/api/audit/export?format=csv").await;
        assert_eq!(export.header("content-type"), "text/csv; charset=utf-8");
        assert!(export.body.starts_with("seq,time,actor_id,"));
        assert!(export.body.contains("\"'=HYPERLINK("), "{}", export.body);
        assert!(!export.body.contains(",\"=") && !export.body.contains(",="), "{}", export.body);
    }
}
