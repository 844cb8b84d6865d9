//! The cookies of a browser login: access token, refresh token, and a script-readable marker.
//!
//! The tokens are HttpOnly, Secure and SameSite=Strict.
//!
//! `__Host-` (RFC 6265bis section 4.1.3.2) also binds them to this host and to `Path=/`, so that no
//! page of another host below the same domain, such as an application's, can set them (docs/adr/0025).

use crate::broker::model::{KnownBrowserCookie, Tokens};
use crate::http::cookie_header::{self, RequestCookie};
use actix_web::HttpRequest;
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::http::header;

/// The access token.
pub const ACCESS: &str = "__Host-portcullis";
/// The refresh token.
pub const REFRESH: &str = "__Host-portcullis-refresh";
/// Marker for scripts of the pages that token cookies are set, so that a first visit needs no request
/// that is refused.
pub const SIGNED_IN: &str = "__Host-portcullis-here";
/// The refresh token's name in earlier versions, with its path. It is never read: a page of another
/// host below the same domain could set it.
const OLD_REFRESH: (&str, &str) = ("__Secure-portcullis-refresh", "/api/auth");

/// Says that this browser has signed in to accounts before; kept when signing out.
pub const KNOWN_BROWSER: &str = "__Host-portcullis-browser";

/// Request header that selects cookie mode, with the value `cookie`.
pub const MODE_HEADER: &str = "X-Portcullis-Session";

/// Whether the client keeps its tokens in cookies.
#[must_use]
pub fn wants_cookies(req: &HttpRequest) -> bool {
    req.headers().get(MODE_HEADER).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"cookie"))
}

/// A cookie of the request.
#[must_use]
pub fn read<'a>(req: &'a HttpRequest, name: &str) -> RequestCookie<'a> {
    cookie_header::find(req.headers().get_all(header::COOKIE).map(|v| v.as_bytes()), name)
}

/// Whether the browser has cookies of a login, valid or not.
#[must_use]
pub fn has_any(req: &HttpRequest) -> bool {
    [ACCESS, REFRESH, SIGNED_IN, OLD_REFRESH.0]
        .iter()
        .any(|name| read(req, name) != RequestCookie::Missing)
}

/// The cookie that removes the refresh token of an earlier version, if the browser has one.
#[must_use]
pub fn old_refresh_removal(req: &HttpRequest) -> Option<Cookie<'static>> {
    let (name, path) = OLD_REFRESH;
    let has_it = read(req, name) != RequestCookie::Missing;
    has_it.then(|| cookie(name, String::new(), path, std::time::Duration::ZERO))
}

/// The cookies for these tokens.
#[must_use]
pub fn token_cookies(tokens: &Tokens) -> [Cookie<'static>; 3] {
    [
        cookie(ACCESS, tokens.access_token.expose().clone(), "/", tokens.expires_in),
        cookie(REFRESH, tokens.refresh_token.expose().clone(), "/", tokens.refresh_expires_in),
        signed_in_cookie("1", tokens.refresh_expires_in),
    ]
}

/// The cookie that makes this browser a known one.
#[must_use]
pub fn known_browser_cookie(known: &KnownBrowserCookie) -> Cookie<'static> {
    cookie(KNOWN_BROWSER, known.value.expose().clone(), "/", known.expires_in)
}

/// Expired cookies, which remove them.
#[must_use]
pub fn removal_cookies() -> [Cookie<'static>; 4] {
    let over = std::time::Duration::ZERO;
    [
        cookie(ACCESS, String::new(), "/", over),
        cookie(REFRESH, String::new(), "/", over),
        cookie(OLD_REFRESH.0, String::new(), OLD_REFRESH.1, over),
        signed_in_cookie("", over),
    ]
}

fn signed_in_cookie(value: &'static str, life: std::time::Duration) -> Cookie<'static> {
    let mut mark = cookie(SIGNED_IN, value.to_owned(), "/", life);
    mark.set_http_only(false);
    mark
}

fn cookie(
    name: &'static str,
    value: String,
    path: &'static str,
    life: std::time::Duration,
) -> Cookie<'static> {
    Cookie::build(name, value)
        .path(path)
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(Duration::seconds(i64::try_from(life.as_secs()).unwrap_or(i64::MAX)))
        .finish()
}
