//! The cookies of a browser login: access token, refresh token, and a script-readable marker.
//!
//! The tokens are HttpOnly, Secure and SameSite=Strict.
//!
//! `__Host-` (RFC 6265bis section 4.1.3.2) also binds the access cookie to this host and to
//! `Path=/`; the refresh cookie has a narrower path and so the `__Secure-` prefix.

use crate::broker::model::{KnownBrowserCookie, Tokens};
use crate::domain::secret::SecretString;
use actix_web::HttpRequest;
use actix_web::cookie::{Cookie, SameSite, time::Duration};

/// The access token.
pub const ACCESS: &str = "__Host-portcullis";
/// The refresh token; sent to the auth routes only.
pub const REFRESH: &str = "__Secure-portcullis-refresh";
/// Marker for scripts of the pages that token cookies are set, so that a first visit needs no request
/// that is refused.
pub const SIGNED_IN: &str = "__Host-portcullis-here";
const REFRESH_PATH: &str = "/api/auth";

/// Says that this browser has signed in to accounts before; kept when signing out.
pub const KNOWN_BROWSER: &str = "__Host-portcullis-browser";

/// Request header that selects cookie mode, with the value `cookie`.
pub const MODE_HEADER: &str = "X-Portcullis-Session";

/// Whether the client keeps its tokens in cookies.
#[must_use]
pub fn wants_cookies(req: &HttpRequest) -> bool {
    req.headers().get(MODE_HEADER).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"cookie"))
}

/// The cookies for these tokens.
#[must_use]
pub fn token_cookies(tokens: &Tokens) -> [Cookie<'static>; 3] {
    [
        cookie(ACCESS, tokens.access_token.expose().clone(), "/", tokens.expires_in),
        cookie(
            REFRESH,
            tokens.refresh_token.expose().clone(),
            REFRESH_PATH,
            tokens.refresh_expires_in,
        ),
        signed_in_cookie("1", tokens.refresh_expires_in),
    ]
}

/// The cookie of a known browser, unless it is sent twice.
#[must_use]
pub fn known_browser(req: &HttpRequest) -> Option<SecretString> {
    let cookies = req.cookies().ok()?;
    let mut values = cookies.iter().filter(|c| c.name() == KNOWN_BROWSER).map(Cookie::value);
    let value = values.next().filter(|_| values.next().is_none())?;
    Some(SecretString::new(value.to_owned()))
}

/// The cookie that makes this browser a known one.
#[must_use]
pub fn known_browser_cookie(known: &KnownBrowserCookie) -> Cookie<'static> {
    cookie(KNOWN_BROWSER, known.value.expose().clone(), "/", known.expires_in)
}

/// Expired cookies, which remove them.
#[must_use]
pub fn removal_cookies() -> [Cookie<'static>; 3] {
    let over = std::time::Duration::ZERO;
    [
        cookie(ACCESS, String::new(), "/", over),
        cookie(REFRESH, String::new(), REFRESH_PATH, over),
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
