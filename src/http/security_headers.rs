//! What every answer tells the browser to refuse.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Pages: nothing but our own files. Inline styles are allowed since both remote screens place their canvas by them; inline scripts are not.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/// The viewer, which may also compile the WASM of its own files (RDP). `eval` stays forbidden.
const VIEWER_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/// Data: a browser that shows it as a page may load nothing from it.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
const PERMISSIONS: &str = "accelerometer=(), camera=(), clipboard-read=(self), clipboard-write=(self), display-capture=(), fullscreen=(self), \
    geolocation=(), gyroscope=(), keyboard-map=(self), magnetometer=(), microphone=(), midi=(), payment=(), usb=()";

const ALWAYS: &[(&str, &str)] = &[
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("permissions-policy", PERMISSIONS),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Adds what the answer to a request of this path must carry. What a handler said about caching stays.
pub fn add(path: &str, headers: &mut HeaderMap) {
    for &(name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let policy = if is_data(path) {
        DATA_POLICY
    } else if path.starts_with("/viewer/") {
        VIEWER_POLICY
    } else {
        PAGE_POLICY
    };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

fn is_data(path: &str) -> bool {
    path.starts_with("/api/") || path.starts_with("/.well-known/") || path == "/metrics"
}
