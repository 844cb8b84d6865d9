//! The built web UI (`static/dist`), embedded in the binary: the console, the viewer, and their
//! hashed assets.
//!
//! A build without the UI still compiles and serves the API; its pages say what to run.

use super::error::ApiError;
use crate::domain::SessionId;
use actix_web::http::header::{
    self, AcceptEncoding, ContentType, ETag, Encoding, EntityTag, Header as _, IfNoneMatch,
};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "static/dist"]
#[allow_missing = true]
struct StaticFiles;

/// Names of hashed files change with their content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Everything else is asked for again, by its tag.
const REVALIDATE: &str = "no-cache";

/// The console; its own router shows the screen.
pub async fn console(req: HttpRequest) -> HttpResponse {
    page(&req, "index.html")
}

/// The viewer of a session. The page is the same for every session; what may be seen is decided
/// when it asks for a ticket.
pub async fn viewer(req: HttpRequest) -> HttpResponse {
    match req.match_info().get("id").unwrap_or_default().parse::<SessionId>() {
        Ok(_) => page(&req, "viewer.html"),
        Err(_) => not_found(req).await,
    }
}

/// A hashed file.
pub async fn asset(req: HttpRequest) -> HttpResponse {
    let name = format!("assets/{}", req.match_info().get("file").unwrap_or_default());
    serve_gzip(&req, &name)
        .or_else(|| serve(&req, &name, IMMUTABLE))
        .unwrap_or_else(|| ApiError::not_found("File").error_response())
}

/// A file beside the pages, such as the icon.
pub async fn root_file(req: HttpRequest) -> HttpResponse {
    let name = req.match_info().get("file").unwrap_or_default().to_owned();
    serve(&req, &name, REVALIDATE).unwrap_or_else(|| ApiError::not_found("File").error_response())
}

/// What no route has: a person reads the console's own "not found", a program JSON.
pub async fn not_found(req: HttpRequest) -> HttpResponse {
    let accepts =
        req.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let is_person =
        req.method().is_safe() && accepts.contains("text/html") && !req.path().starts_with("/api/");
    match StaticFiles::get("index.html") {
        Some(file) if is_person => HttpResponse::NotFound()
            .insert_header((header::CACHE_CONTROL, REVALIDATE))
            .content_type(ContentType::html())
            .body(file.data),
        Some(_) | None => ApiError::not_found("Page").error_response(),
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
