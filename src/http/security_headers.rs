//! Security headers of every response: Content-Security-Policy and others.

use super::apps::AppsSettings;
use crate::domain::SessionId;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Pages: same-origin files only. Inline styles are allowed, because noVNC and IronRDP position
/// their canvas by them; inline scripts are not.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/// The viewer, which may also compile WASM of its own files (RDP). `eval` stays forbidden.
const VIEWER_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/// API responses: shown as a page, they load nothing.
const API_POLICY: &str =
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const PERMISSIONS: &str = "accelerometer=(), camera=(), clipboard-read=(self), clipboard-write=(self), display-capture=(), fullscreen=(self), \
    geolocation=(), gyroscope=(), keyboard-map=(self), magnetometer=(), microphone=(), midi=(), payment=(), usb=()";

const COMMON_HEADERS: &[(&str, &str)] = &[
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("permissions-policy", PERMISSIONS),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Adds the headers for a path. `Cache-Control` of a handler is kept.
pub fn add(path: &str, headers: &mut HeaderMap, apps: Option<&AppsSettings>) {
    for &(name, value) in COMMON_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let policy = if is_api_path(path) {
        API_POLICY
    } else if path.starts_with("/viewer/") {
        VIEWER_POLICY
    } else {
        PAGE_POLICY
    };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if let Some((session, apps)) = viewer_session(path).zip(apps) {
        allow_app_frame(headers, &apps.origin(session));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// The session of a viewer page.
fn viewer_session(path: &str) -> Option<SessionId> {
    path.strip_prefix("/viewer/")?.parse().ok()
}

/// The viewer may frame the application of its session, post the ticket there and read its state;
/// no other session's.
fn allow_app_frame(headers: &mut HeaderMap, origin: &str) {
    let policy = VIEWER_POLICY
        .replace("connect-src 'self'", &format!("connect-src 'self' {origin}"))
        .replace("form-action 'self'", &format!("form-action 'self' {origin}; frame-src {origin}"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        // The application's origin checks the `Origin` of the ticket, which `no-referrer` would make
        // `null` (Fetch, "append a request Origin header").
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
    }
}

fn is_api_path(path: &str) -> bool {
    path.starts_with("/api/") || path.starts_with("/.well-known/") || path == "/metrics"
}
