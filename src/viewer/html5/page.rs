//! Responses that the gateway generates in place of the application's: a page for browsers, JSON for
//! other clients. Without scripts and external resources.

use super::body::{Body, full_body};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::sync::LazyLock;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The style sheet of the gateway's pages at an application's origin.
pub const STYLE: &str = ":root{color-scheme:light dark;--bg:#f7f8fa;--card:#fff;--ink:#1c2330;--soft:#566072;--line:#dfe3ea;--accent:#2457d6}\
@media(prefers-color-scheme:dark){:root{--bg:#12151b;--card:#1a1f28;--ink:#e8ebf1;--soft:#a3adbd;--line:#2c3442;--accent:#8fb0ff}}\
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;padding:24px;background:var(--bg);color:var(--ink);\
font:16px/1.5 system-ui,sans-serif}main{max-width:520px;width:100%;background:var(--card);border:1px solid var(--line);border-radius:12px;padding:28px}\
h1{font-size:20px;line-height:1.3;margin:0 0 8px}p{margin:0 0 12px}.do{color:var(--soft)}a{color:var(--accent)}\
small{display:block;margin-top:20px;padding-top:12px;border-top:1px solid var(--line);color:var(--soft);font-size:13px;overflow-wrap:anywhere}";

/// The content security policy of those pages, without `frame-ancestors`. The style is allowed by its
/// hash (CSP3 section 6.7.3.3).
pub static PAGE_POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        STANDARD.encode(Sha256::digest(STYLE))
    )
});

/// The content of a response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    pub status: StatusCode,
    /// Error code, for programs and support.
    pub code: &'static str,
    /// What happened, in one sentence.
    pub title: &'static str,
    /// Why, and on which segment of the path.
    pub text: String,
    /// What the user can do.
    pub action: &'static str,
    /// Whether the same request may succeed later: the page then links to it.
    pub retryable: bool,
}

/// Whether the client accepts HTML.
#[must_use]
pub fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|value| value.as_bytes().windows(9).any(|w| w.eq_ignore_ascii_case(b"text/html")))
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

impl Page {
    /// `html`: a page instead of JSON. `framing_origins`: whose pages may frame it, as a
    /// source list of `frame-ancestors`.
    #[must_use]
    pub fn response(&self, html: bool, framing_origins: &str) -> Response<Body> {
        let id = Uuid::new_v4();
        let (kind, text) = if html {
            ("text/html; charset=utf-8", self.html(id))
        } else {
            ("application/json", self.json())
        };
        let mut response = Response::new(full_body(Bytes::from(text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(
            HeaderName::from_static("origin-agent-cluster"),
            HeaderValue::from_static("?1"),
        );
        let policy = format!("{}; frame-ancestors 'self' {framing_origins}", *PAGE_POLICY);
        for (name, value) in
            [(header::CONTENT_SECURITY_POLICY, policy), (REQUEST_ID, id.to_string())]
        {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        if self.retryable && self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        tracing::info!(request_id = %id, status = self.status.as_u16(), code = self.code, "application.page");
        response
    }

    fn html(&self, id: Uuid) -> String {
        let mut page = String::with_capacity(2048);
        let _ = write!(
            page,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1><p>{text}</p><p class=\"do\">{action}</p>",
            title = escape_html(self.title),
            text = escape_html(&self.text),
            action = escape_html(self.action),
        );
        if self.retryable {
            page.push_str("<p><a href=\"\">Try again</a></p>");
        }
        let _ = write!(
            page,
            "<small>{} · {} · request {id}</small></main></body></html>",
            self.status.as_u16(),
            self.code
        );
        page
    }

    fn json(&self) -> String {
        let mut detail = self.title.to_owned();
        for text in [self.text.as_str(), self.action] {
            if !text.is_empty() {
                detail.push(' ');
                detail.push_str(text);
            }
        }
        serde_json::json!({ "detail": detail, "code": self.code }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn page() -> Page {
        Page {
            status: StatusCode::BAD_GATEWAY,
            code: "x",
            title: "It <failed>.",
            text: "Why & how.".into(),
            action: "Wait.",
            retryable: true,
        }
    }

    #[tokio::test]
    async fn html_for_browsers_and_json_for_other_clients() {
        let page = page().response(true, "https://gw.test");
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(
            policy.starts_with("default-src 'none'")
                && policy.ends_with("frame-ancestors 'self' https://gw.test"),
            "{policy}"
        );
        let id = page.headers()[REQUEST_ID].to_str().unwrap().to_owned();
        let html = String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec())
            .unwrap();
        assert!(
            html.contains("It &lt;failed&gt;.")
                && html.contains("Why &amp; how.")
                && html.contains(&id)
                && !html.contains("<script")
        );

        let json = self::page()
            .response(false, "https://gw.test")
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["detail"], "It <failed>. Why & how. Wait.");
    }

    #[test]
    fn only_text_html_counts_as_html() {
        let accept = |text: &'static str| {
            accepts_html(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(text))]))
        };
        assert!(
            accept("Text/HTML,application/xhtml+xml")
                && !accept("*/*")
                && !accept("application/json")
                && !accepts_html(&HeaderMap::new())
        );
    }
}
