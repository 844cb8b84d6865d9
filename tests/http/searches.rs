//! Searches of the audit log beside everything else: nobody waits behind them.

use crate::support::app::{TestApp, WORKSPACE};
use crate::support::db::{Backend, Db};
use crate::support::occupied::Occupied;
use crate::support::wait::eventually;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::http::api::definition::{Api, describe};
use portcullis::http::client_presence::ClientPresence;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

on_both! {
    /// While every connection of searches and listings is in use, people sign in, open and end
    /// sessions, and health says that all is well.
    async fn searches_keep_nobody_waiting(db) {
        let app = TestApp::start(db).await;
        let member = app.signed_in("member").await;
        let admin = app.signed_in("admin").await;
        let launch = async || {
            let launched = member.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
            assert_eq!(launched.status, 200, "{}", launched.body);
            launched.json()["session_id"].as_str().unwrap().to_owned()
        };
        let session = launch().await;
        let occupied = Occupied::searches_and_listings(app.store()).await;
        let me = member.get("/api/auth/me").await;
        assert_eq!(me.status, 200, "{}", me.body);
        let ticket = member.post(&format!("/api/sessions/{session}/ticket"), json!({})).await;
        assert_eq!(ticket.status, 200, "{}", ticket.body);
        let health = app.anonymous().get("/api/health").await;
        assert_eq!(health.status, 200, "{}", health.body);
        app.signed_in("other").await;
        let terminated = admin.post(&format!("/api/admin/sessions/{session}/terminate"), json!({})).await;
        assert_eq!(terminated.status, 200, "{}", terminated.body);
        let session = launch().await;
        let disconnected = member.post(&format!("/api/sessions/{session}/disconnect"), json!({})).await;
        assert_eq!(disconnected.status, 200, "{}", disconnected.body);
        let out = member.post("/api/auth/logout", json!({"everywhere": true})).await;
        assert!(out.status < 300, "{}", out.body);
        drop(occupied);
        assert_eq!(admin.get("/api/audit?q=nothing-like-this").await.status, 200);
    }

    /// One user's searches do not take what others search with.
    async fn a_user_has_few_searches_at_once(db) {
        let app = TestApp::start(db).await;
        let (admin, security) = (app.signed_in("admin").await, app.signed_in("security").await);
        let occupied = Occupied::searches_and_listings(app.store()).await;
        let searches = (0..16).map(|n| {
            let admin = admin.clone();
            tokio::spawn(async move { admin.get(&format!("/api/audit?q=nothing-{n}")).await })
        });
        let searches: Vec<_> = searches.collect();
        let refused = async {
            let (first, _, rest) = futures_util::future::select_all(searches).await;
            (first.unwrap(), rest)
        };
        let (refused, rest) = refused.await;
        assert_eq!(refused.status, 429, "{}", refused.body);
        assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert!(refused.detail().contains("search"), "{}", refused.body);
        drop(occupied);
        assert_eq!(security.get("/api/audit?q=nothing").await.status, 200);
        let answers: Vec<u16> = join_all(rest).await.into_iter().map(|a| a.unwrap().status).collect();
        assert!(answers.iter().filter(|status| **status == 200).count() >= 2, "{answers:?}");
        assert_eq!(admin.get("/api/audit?q=nothing").await.status, 200, "the next one is served");
    }
}

/// An API whose one handler works until its client leaves.
mod endless {
    use super::*;
    use actix_web::HttpResponse;
    use portcullis::http::error::{ApiError, ApiResult};

    pub static BEGUN: AtomicUsize = AtomicUsize::new(0);
    pub static ENDED: AtomicUsize = AtomicUsize::new(0);

    struct Work;

    impl Drop for Work {
        fn drop(&mut self) {
            ENDED.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[utoipa::path(get, path = "/endless/v1/work", operation_id = "work", responses((status = 200)))]
    pub async fn work(mut client: ClientPresence) -> ApiResult {
        BEGUN.fetch_add(1, Ordering::SeqCst);
        let work = Work;
        client
            .serve(async move {
                let _work = work;
                std::future::pending().await
            })
            .await
            .map(|()| HttpResponse::Ok().finish())
    }

    pub fn api() -> Arc<Api> {
        #[derive(utoipa::OpenApi)]
        #[openapi(info(title = "Endless"))]
        struct Document;
        let routes = portcullis::api_routes![endless::work];
        let document = describe(<Document as utoipa::OpenApi>::openapi(), &routes);
        Arc::new(Api {
            prefix: "/endless/",
            routes,
            error_response: |error| error.response().finish(),
            authenticate: |_| Box::pin(async { Err(ApiError::unauthenticated()) }),
            document: Bytes::from(document.to_json().unwrap()),
        })
    }
}

const WORK: &str = "/endless/v1/work";

/// Two requests have begun; the one that is given up ends, the other one goes on until it is too.
async fn one_of_two_leaves<T>(
    stays: tokio::task::JoinHandle<T>,
    leaves: tokio::task::JoinHandle<T>,
) {
    static ROUNDS: AtomicUsize = AtomicUsize::new(0);
    let rounds = ROUNDS.fetch_add(1, Ordering::SeqCst);
    let count = |counter: &'static AtomicUsize, expected: usize| {
        eventually(format!("{expected} of {rounds}"), async move || {
            counter.load(Ordering::SeqCst) == 2 * rounds + expected
        })
    };
    count(&endless::BEGUN, 2).await;
    leaves.abort();
    count(&endless::ENDED, 1).await;
    assert!(!stays.is_finished());
    stays.abort();
    count(&endless::ENDED, 2).await;
}

/// A client that gives a request up ends the work for it, whether its connection goes (HTTP/1.1) or
/// stays for its other requests (HTTP/2).
#[tokio::test(flavor = "multi_thread")]
async fn work_ends_when_its_client_leaves() {
    let app = TestApp::with_apis(Db::new(Backend::Sqlite), vec![endless::api()]).await;
    let client = app.anonymous();
    let http1 = || {
        let client = client.clone();
        tokio::spawn(async move { client.get(WORK).await.status })
    };
    one_of_two_leaves(http1(), http1()).await;

    let stream = super::cookies::connect(&app, "localhost", b"h2").await;
    let (requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let http2 = || {
        let mut requests = requests.clone();
        let url = format!("https://localhost:{}{WORK}", app.port);
        let request = hyper::Request::get(url).body(Empty::<Bytes>::new()).unwrap();
        tokio::spawn(async move { requests.send_request(request).await.unwrap().status().as_u16() })
    };
    one_of_two_leaves(http2(), http2()).await;
}
