//! The built web UI; in a build without it, how to build it.

use crate::support::app::TestApp;
use crate::support::client::Client;
use portcullis::http::routes;

#[tokio::test(flavor = "multi_thread")]
async fn pages_revalidate_and_assets_are_immutable() {
    let app = TestApp::sqlite().await;
    let client = app.anonymous();
    let page = client.get("/").await;
    if page.status == 503 {
        assert!(page.body.contains("make"), "{}", page.body);
        assert_eq!(page.header("content-type"), "text/plain; charset=utf-8");
        return;
    }
    for path in routes::CONSOLE {
        assert_eq!(client.get(path).await.body, page.body, "{path}");
    }
    let viewer = client.get("/viewer/00000000-0000-4000-8000-000000000000").await;
    for (page, scripts) in
        [(&page, "script-src 'self';"), (&viewer, "script-src 'self' 'wasm-unsafe-eval';")]
    {
        assert_eq!(
            (page.status, page.header("content-type"), page.header("cache-control")),
            (200, "text/html; charset=utf-8", "no-cache")
        );
        let policy = page.header("content-security-policy");
        assert!(policy.contains(scripts) && policy.contains("connect-src 'self'"), "{policy}");
        assert!(!page.body.contains("<script>"), "no inline script");
    }
    assert_ne!(viewer.body, page.body);
    let again = client.header("if-none-match", page.header("etag")).get("/").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let unknown = client.header("accept", "text/html").get("/no/such/page").await;
    assert_eq!(
        (unknown.status, unknown.body == page.body),
        (404, true),
        "a person reads the console's own words"
    );

    let script = page
        .body
        .split('"')
        .find(|part| part.starts_with("/assets/") && part.ends_with(".js"))
        .expect("a script")
        .to_owned();
    let plain = client.get(&script).await;
    assert_eq!(
        (plain.status, plain.header("content-type")),
        (200, "text/javascript; charset=utf-8")
    );
    assert!(plain.header("cache-control").contains("immutable"));
    assert_eq!(fetch_gzip(&client, &script).await, "gzip");
    for outside in [
        "/assets/../index.html",
        "/assets/%2e%2e/index.html",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/",
    ] {
        let answer = client.get(outside).await;
        assert!(answer.status == 404 || answer.body == page.body, "{outside}: {}", answer.status);
    }
}

/// The RDP viewer's WASM, by its hashed name.
fn wasm() -> Option<String> {
    let names = std::fs::read_dir("static/dist/assets")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".wasm")).map(|name| format!("/assets/{name}")).next()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_assets_are_precompressed() {
    let app = TestApp::sqlite().await;
    let client = app.anonymous();
    if client.get("/").await.status == 503 {
        return;
    }
    let wasm = wasm().expect("the build makes one");
    let plain = client.header("accept-encoding", "identity").get(&wasm).await;
    assert_eq!(
        (plain.status, plain.header("content-type"), plain.header("content-encoding")),
        (200, "application/wasm", "")
    );
    let small = client.header("accept-encoding", "gzip, deflate, br").get(&wasm).await;
    assert_eq!(
        (small.status, small.header("content-type"), small.header("content-encoding")),
        (200, "application/wasm", "gzip")
    );
    assert!(
        small.header("vary").contains("accept-encoding")
            && small.header("cache-control").contains("immutable")
    );
    let again = client
        .header("accept-encoding", "gzip")
        .header("if-none-match", small.header("etag"))
        .get(&wasm)
        .await;
    assert_eq!(again.status, 304);
}

async fn fetch_gzip(client: &Client, path: &str) -> String {
    let answer = client.header("accept-encoding", "gzip").open(path).await;
    answer.headers().get("content-encoding").map_or("", |v| v.to_str().unwrap()).to_owned()
}
