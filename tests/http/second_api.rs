//! A second API beside the first, with its own error body, authentication and document: it needs no
//! change in the first.

use crate::support::app::TestApp;
use crate::support::db::{Backend, Db};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use portcullis::http::api::definition::{Access, Api, describe};
use portcullis::http::error::{ApiError, ApiResult};
use portcullis::http::extract::{Authenticated, JsonBody, RequestMeta};
use portcullis::http::state::app_state;
use serde_json::{Value, json};
use std::sync::Arc;

/// Handlers of an API that counts the letters of a word.
mod letters {
    use super::*;

    #[derive(serde::Deserialize, utoipa::ToSchema)]
    pub struct Word {
        word: String,
    }

    #[utoipa::path(post, path = "/letters/v1/counts", operation_id = "count", request_body = Word,
        responses((status = 200, body = usize)), security(("key" = [])))]
    pub async fn count(
        Authenticated(_): Authenticated,
        JsonBody(body): JsonBody<Word>,
    ) -> ApiResult {
        Ok(HttpResponse::Ok().json(body.word.len()))
    }

    #[utoipa::path(get, path = "/letters/v1/document", operation_id = "document", responses((status = 200)))]
    pub async fn document(state: web::Data<portcullis::http::state::AppState>) -> HttpResponse {
        HttpResponse::Ok().json(state.settings.host_names.len())
    }
}

fn letters_api() -> Arc<Api> {
    #[derive(utoipa::OpenApi)]
    #[openapi(info(title = "Letters"))]
    struct Document;
    let routes = portcullis::api_routes![letters::count, letters::document];
    let document = describe(<Document as utoipa::OpenApi>::openapi(), &routes);
    Arc::new(Api {
        prefix: "/letters/",
        routes,
        error_response: |error| {
            let code = error.status().as_u16();
            error.response().json(json!({"error": {"code": code, "message": error.detail()}}))
        },
        authenticate: |req| {
            Box::pin(async move {
                let key = req.headers().get("x-key").and_then(|key| key.to_str().ok());
                let key = key.ok_or_else(ApiError::unauthenticated)?;
                let RequestMeta(source) = RequestMeta::of(&req);
                Ok(app_state(&req)?.broker.logins().authenticate(&source, key).await?)
            })
        },
        document: Bytes::from(document.to_json().unwrap()),
    })
}

fn code(body: &str) -> (Value, Value) {
    let body: Value = serde_json::from_str(body).unwrap();
    assert!(body.get("detail").is_none(), "{body}");
    (body["error"]["code"].clone(), body["error"]["message"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_api_has_its_own_error_body() {
    let app = TestApp::with_apis(Db::new(Backend::Sqlite), vec![letters_api()]).await;
    let client = app.anonymous();
    let counts = "/letters/v1/counts";
    let missing = client.post(counts, json!({"word": "abc"})).await;
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, ""));
    assert_eq!(code(&missing.body), (json!(401), json!("Not signed in")));
    let wrong = client.header("x-key", "k").post(counts, json!({"word": "abc"})).await;
    assert_eq!(code(&wrong.body).0, json!(401));
    let method = client.get(counts).await;
    assert_eq!(
        (method.status, method.header("allow")),
        (401, ""),
        "authenticated before the method"
    );
    let method = client.post("/letters/v1/document", json!({})).await;
    assert_eq!((method.status, method.header("allow")), (405, "GET"));
    assert_eq!(code(&method.body), (json!(405), json!("Method not allowed")));
    assert_eq!(code(&client.get("/letters/v1/nothing").await.body).0, json!(404));
    let foreign = client.header("host", "evil.example").get(counts).await;
    assert_eq!(code(&foreign.body).0, json!(421), "also before the routes");
    for answer in [&missing, &method, &foreign] {
        assert!(!answer.header("x-request-id").is_empty());
    }
    assert_eq!(client.get("/letters/v1/document").await.body, "0");

    let first = client.get("/api/workspaces").await;
    assert_eq!((first.status, first.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(first.json(), json!({"detail": "Not signed in"}));
    assert_eq!(client.get("/api/nothing").await.json(), json!({"detail": "Page not found"}));
    let member = app.signed_in("member").await;
    assert_eq!(member.get("/api/workspaces").await.status, 200);
    assert_eq!(
        member.post(counts, json!({"word": "abc"})).await.status,
        401,
        "its own authentication"
    );
}

#[test]
fn routes_are_declared_by_their_handlers() {
    let api = letters_api();
    let routes: Vec<_> = api
        .routes
        .iter()
        .map(|r| (r.method.as_str(), r.path.as_str(), r.operation_id.as_str(), r.access))
        .collect();
    assert_eq!(
        routes,
        [
            ("POST", "/letters/v1/counts", "count", Access::Authenticated),
            ("GET", "/letters/v1/document", "document", Access::Public)
        ]
    );
    let document: Value = serde_json::from_slice(&api.document).unwrap();
    assert_eq!(document["info"]["title"], "Letters");
    assert_eq!(document["paths"].as_object().unwrap().len(), 2);
    assert!(document["components"]["schemas"]["Word"].is_object());
    let first: Value =
        serde_json::from_slice(&portcullis::http::api::workspaces::api().document).unwrap();
    assert!(first["paths"].get("/letters/v1/counts").is_none());
}
