//! Requests of web applications: stored in order, read newest first, numbered without gaps by
//! concurrent writers.

use super::*;
use portcullis::domain::web_app::{RequestOutcome, RequestRecord};
use portcullis::store::RequestFilter;
use portcullis::store::search::WINDOW;

fn record(n: u64) -> RequestRecord {
    RequestRecord {
        at: later(n),
        method: "GET".into(),
        path: format!("/{n}"),
        status: 200,
        bytes_in: n,
        bytes_out: u64::MAX,
        duration: Duration::from_millis(n),
        outcome: RequestOutcome::Completed,
    }
}

async fn session(db: &Db) -> SessionId {
    let org = organization(db).await;
    let ann = user(db, org, "ann@example.com").await;
    let session = make_session(&ann, "ws-one", 2);
    let id = session.id;
    db.store.write(move |tx| tx.insert_session(&session, None)).await.unwrap();
    id
}

async fn page(db: &Db, id: SessionId, before: Option<i64>, count: usize) -> Vec<i64> {
    let rows = db.store.read(move |tx| tx.app_requests(id, before, count)).await.unwrap();
    rows.into_iter().map(|(seq, _)| seq).collect()
}

on_both! {
    async fn pages_go_backwards(db) {
        let id = session(&db).await;
        assert_eq!(page(&db, id, None, 10).await, [0_i64; 0]);
        db.store.write(move |tx| tx.add_app_requests(id, &[])).await.unwrap();
        db.store.write(move |tx| tx.add_app_requests(id, &[record(1), record(2)])).await.unwrap();
        db.store.write(move |tx| tx.add_app_requests(id, &[record(3)])).await.unwrap();
        assert_eq!(page(&db, id, None, 2).await, [3, 2]);
        assert_eq!(page(&db, id, Some(2), 2).await, [1]);
        assert_eq!(page(&db, SessionId::new(), None, 2).await, [0_i64; 0]);
        let newest = db.store.read(move |tx| tx.app_requests(id, None, 1)).await.unwrap().remove(0).1;
        assert_eq!(newest, RequestRecord { bytes_out: i64::MAX as u64, ..record(3) });
    }

    /// A filter that few requests fit is searched in bounded steps.
    async fn steps_find_what_fits(db) {
        let id = session(&db).await;
        let many = 2 * WINDOW as u64 + 10;
        let records: Vec<RequestRecord> = (1..=many).map(record).collect();
        db.store.write(move |tx| tx.add_app_requests(id, &records)).await.unwrap();
        let newest = db.store.search(move |tx| tx.newest_app_request(id)).await.unwrap();
        assert_eq!(newest, many as i64);
        let find = async |path: &str, after: i64| {
            let filter = RequestFilter { path: Some(path.to_owned()), ..RequestFilter::default() };
            let (mut found, mut steps, mut before) = (Vec::new(), 0, newest + 1);
            loop {
                let filter = filter.clone();
                let window = db.store.search(move |tx| tx.app_request_window(id, &filter, after..before, 10)).await.unwrap();
                steps += 1;
                found.extend(window.requests.into_iter().map(|(seq, _)| seq));
                match window.next {
                    Some(next) => before = next,
                    None => return (found, steps),
                }
            }
        };
        assert_eq!(find("/4097", 0).await, (vec![4097], 3));
        assert_eq!(find("nothing", 0).await, (vec![], 3));
        assert_eq!(find("/4097", 5000).await, (vec![], 1));
        let (found, steps) = find("/", newest - 25).await;
        assert_eq!((found.len(), steps), (25, 3), "at most ten at once");
        assert_eq!(db.store.search(move |tx| tx.app_request_time(id, 7)).await.unwrap(), Some(later(7)));
    }

    async fn long_or_invalid_text_is_truncated(db) {
        let id = session(&db).await;
        let odd = RequestRecord { path: format!("/a\0{}", "ü".repeat(400)), method: "M".repeat(99), ..record(1) };
        db.store.write(move |tx| tx.add_app_requests(id, std::slice::from_ref(&odd))).await.unwrap();
        let kept = db.store.read(move |tx| tx.app_requests(id, None, 1)).await.unwrap().remove(0).1;
        assert!(kept.path.starts_with("/a\u{fffd}ü") && kept.path.len() <= 514, "{}", kept.path.len());
        assert_eq!(kept.method.len(), 32);
    }

    async fn two_gateways_write_for_one_session(db) {
        let id = session(&db).await;
        let store = db.store.clone();
        let (a, b) = race(move |n| {
            let store = store.clone();
            async move {
                for _ in 0..10 {
                    store.write(move |tx| tx.add_app_requests(id, &[record(u64::from(n)), record(9)])).await.unwrap();
                }
            }
        })
        .await;
        let ((), ()) = (a, b);
        assert_eq!(page(&db, id, None, 100).await, (1..=40).rev().collect::<Vec<_>>());
    }

    async fn a_session_must_exist(db) {
        let nobody = SessionId::new();
        assert!(db.store.write(move |tx| tx.add_app_requests(nobody, &[record(1)])).await.is_err());
    }
}
