//! The built web UI (`static/dist`), embedded in the binary: the console, the viewer, and their
//! hashed assets.
//!
//! A build without the UI compiles and serves the APIs; its pages say how to build it.

use super::error::{ApiError, ApiResult};
use crate::domain::SessionId;
use actix_web::http::header::{
    self, AcceptEncoding, ContentType, ETag, Encoding, EntityTag, Header as _, IfNoneMatch,
};
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "static/dist"]
#[allow_missing = true]
struct StaticFiles;

/// For files whose name contains a hash of their content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// For all other files, by their ETag.
const REVALIDATE: &str = "no-cache";

/// The console; its router in the browser selects the page.
pub async fn console(req: HttpRequest) -> HttpResponse {
    page(&req, "index.html")
}

/// The viewer of a session. The page is the same for every session; access is checked when it
/// requests a ticket.
pub async fn viewer(req: HttpRequest) -> ApiResult {
    match req.match_info().get("id").unwrap_or_default().parse::<SessionId>() {
        Ok(_) => Ok(page(&req, "viewer.html")),
        Err(_) => not_found(req).await,
    }
}

/// A hashed file.
pub async fn asset(req: HttpRequest) -> ApiResult {
    let name = format!("assets/{}", req.match_info().get("file").unwrap_or_default());
    serve_gzip(&req, &name)
        .or_else(|| serve(&req, &name, IMMUTABLE))
        .ok_or_else(|| ApiError::not_found("File"))
}

/// A file in the root, such as the icon.
pub async fn root_file(req: HttpRequest) -> ApiResult {
    let name = req.match_info().get("file").unwrap_or_default().to_owned();
    serve(&req, &name, REVALIDATE).ok_or_else(|| ApiError::not_found("File"))
}

/// A path without a route: browsers get the console, which shows its "not found" page; programs get
/// an error body.
pub async fn not_found(req: HttpRequest) -> ApiResult {
    let accepts =
        req.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let is_person =
        req.method().is_safe() && accepts.contains("text/html") && !req.path().starts_with("/api/");
    match StaticFiles::get("index.html") {
        Some(file) if is_person => Ok(HttpResponse::NotFound()
            .insert_header((header::CACHE_CONTROL, REVALIDATE))
            .content_type(ContentType::html())
            .body(file.data)),
        Some(_) | None => Err(ApiError::not_found("Page")),
    }
}

fn page(req: &HttpRequest, name: &str) -> HttpResponse {
    serve(req, name, REVALIDATE).unwrap_or_else(|| {
        HttpResponse::ServiceUnavailable()
            .content_type(ContentType::plaintext())
            .body("The web UI is not built. Run: make\n")
    })
}

fn serve(req: &HttpRequest, name: &str, caching: &str) -> Option<HttpResponse> {
    let file = StaticFiles::get(name)?;
    let tag = EntityTag::new_weak(hex::encode(&file.metadata.sha256_hash()[..16]));
    let known = match IfNoneMatch::parse(req) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|t| t.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((header::CACHE_CONTROL, caching)).insert_header(ETag(tag));
    Some(if known {
        answer.finish()
    } else {
        answer.content_type(content_type(name)).body(file.data)
    })
}

/// A file that the build compressed, for a browser that takes it so: megabytes are not compressed
/// anew for each.
fn serve_gzip(req: &HttpRequest, name: &str) -> Option<HttpResponse> {
    let gzip = Encoding::gzip();
    let accepted = AcceptEncoding::parse(req).ok()?;
    if accepted.negotiate([&gzip].into_iter()).is_none_or(|chosen| chosen != gzip) {
        return None;
    }
    let mut answer = serve(req, &format!("{name}.gz"), IMMUTABLE)?;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type(name)));
    headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, header::HeaderValue::from_static("accept-encoding"));
    Some(answer)
}

/// Content types of what the UI build makes; `nosniff` holds browsers to them.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("webp") => "image/webp",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        Some("txt") => "text/plain; charset=utf-8",
        Some(_) | None => "application/octet-stream",
    }
}
