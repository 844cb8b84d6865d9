//! Pages at an application's origin for users who have no access to it. They contain no scripts and
//! load no resources.

use super::settings::AppsSettings;
use super::table::AppEnd;
use crate::domain::SessionId;
use crate::domain::session::EndReason;
use crate::http::head_limit::HeadTooLarge;
use crate::viewer::html5::Body;
use crate::viewer::html5::body::full_body;
use crate::viewer::html5::page::{PAGE_POLICY, STYLE};
use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

struct PageText {
    status: StatusCode,
    title: &'static str,
    text: &'static str,
    link: Link,
}

/// Where the page links to.
enum Link {
    Portal,
    /// The viewer of the session in the URL, which may not exist or not be accessible.
    Viewer(SessionId),
}

/// For requests without a cookie to an open application. The same page whether the session exists or
/// not, so that it does not disclose which ids exist. `session`: the id in the URL.
pub(super) fn not_found(settings: &AppsSettings, session: Option<SessionId>) -> Response<Body> {
    page(
        settings,
        &PageText {
            status: StatusCode::NOT_FOUND,
            title: "Nothing is open here",
            text: "An application is shown here only to the browser that opened it from the portal, and until the gateway is restarted. If it was \
                yours, open it again. If you see this inside the viewer, your browser keeps no cookies for it: use \u{201c}Open in its own tab\u{201d}.",
            link: session.map_or(Link::Portal, Link::Viewer),
        },
    )
}

/// For holders of a cookie to an application that ended.
pub(super) fn ended(settings: &AppsSettings, session: SessionId, end: AppEnd) -> Response<Body> {
    let (title, text, link) = match end {
        AppEnd::Session(reason) => {
            ("This session has ended", end_reason_text(reason), Link::Portal)
        }
        AppEnd::SignedOut => (
            "You signed out",
            "That closed this application in the browser that opened it. Sign in and open it again.",
            Link::Viewer(session),
        ),
        AppEnd::Idle => (
            "Closed, since nobody used it",
            "Your session goes on. Open the application again to be back in it.",
            Link::Viewer(session),
        ),
        AppEnd::Reopen => (
            "Open it again",
            "Its connection was closed, because its rules were changed or the gateway was restarted. Your session goes on.",
            Link::Viewer(session),
        ),
    };
    page(settings, &PageText { status: StatusCode::GONE, title, text, link })
}

fn end_reason_text(reason: EndReason) -> &'static str {
    match reason {
        EndReason::UserDisconnected => {
            "You ended it. You can open the application again from the portal."
        }
        EndReason::WorkspaceStopped => "Its workspace was stopped.",
        EndReason::AdminStopped => "An administrator ended it.",
        EndReason::SignedOut => "You signed out. Sign in to open it again.",
        EndReason::SignedOutByAdmin => "An administrator signed you out.",
        EndReason::UserDisabled => "Your account was disabled.",
        EndReason::WorkspaceRemoved => "Its workspace was removed.",
        EndReason::Expired => {
            "It reached the longest time a session may take. Open the application again from the portal."
        }
        EndReason::IdleTimeout => {
            "Nobody used it for a while. Open the application again from the portal."
        }
        EndReason::HostLost => {
            "The host it ran through was lost. Open the application again in a moment."
        }
        EndReason::HostRestarted => {
            "The agent on the host it ran through was restarted. Open the application again."
        }
        EndReason::LaunchFailed => "It did not come up.",
    }
}

/// The ticket is unknown, used, expired, or for another session.
pub(super) fn bad_ticket(settings: &AppsSettings) -> Response<Body> {
    let text = "It can be used once, within half a minute. Open the application again from the viewer or the portal.";
    page(
        settings,
        &PageText {
            status: StatusCode::FORBIDDEN,
            title: "This way in is no longer good",
            text,
            link: Link::Portal,
        },
    )
}

pub(super) fn too_many_viewers(settings: &AppsSettings) -> Response<Body> {
    let text = "This session is open in as many windows as it may be. Close one first.";
    page(
        settings,
        &PageText {
            status: StatusCode::CONFLICT,
            title: "Open in too many windows",
            text,
            link: Link::Portal,
        },
    )
}

pub(super) fn foreign_origin(settings: &AppsSettings) -> Response<Body> {
    let text = "A page of another site asked for this. Only the application's own pages may.";
    page(
        settings,
        &PageText {
            status: StatusCode::FORBIDDEN,
            title: "Not from there",
            text,
            link: Link::Portal,
        },
    )
}

pub(super) fn rate_limited(settings: &AppsSettings) -> Response<Body> {
    let text = "There were too many attempts from your address. Try again in a minute.";
    page(
        settings,
        &PageText {
            status: StatusCode::TOO_MANY_REQUESTS,
            title: "Too many attempts",
            text,
            link: Link::Portal,
        },
    )
}

pub(super) fn unavailable(settings: &AppsSettings) -> Response<Body> {
    let text = "The gateway cannot open it just now. Try again in a moment.";
    page(
        settings,
        &PageText {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Not available just now",
            text,
            link: Link::Portal,
        },
    )
}

/// The cookie that opens the application was there twice; both are removed.
pub(super) fn repeated_cookie(settings: &AppsSettings, session: SessionId) -> Response<Body> {
    let text = "Your browser sent the cookie of this application twice, so that one of them was set by another page. They have been removed: open the \
        application again.";
    page(
        settings,
        &PageText {
            status: StatusCode::BAD_REQUEST,
            title: "Open it again",
            text,
            link: Link::Viewer(session),
        },
    )
}

/// 431; removes the site's cookies where they are the reason.
pub(super) fn head_too_large(
    settings: &AppsSettings,
    reason: HeadTooLarge,
    html: bool,
) -> Response<Body> {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let (title, text) = (reason.title(), reason.detail());
    let mut response = if html {
        page(settings, &PageText { status, title, text, link: Link::Portal })
    } else {
        let mut response = json(&serde_json::json!({ "detail": text }));
        *response.status_mut() = status;
        response
    };
    if let Some(value) = reason.clear_site_data() {
        response.headers_mut().insert("clear-site-data", HeaderValue::from_static(value));
    }
    response
}

/// One line of text, for requests that browsers do not send.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full_body(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    add_headers(&mut response, "text/plain; charset=utf-8", "default-src 'none'");
    response
}

/// For the viewer.
pub(super) fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full_body(value.to_string().into()));
    add_headers(&mut response, "application/json", "default-src 'none'");
    response
}

/// An empty response.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full_body(Bytes::new()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn page(settings: &AppsSettings, text: &PageText) -> Response<Body> {
    let PageText { status, title, text, link } = text;
    let (to, link) = match link {
        Link::Portal => ("/".to_owned(), "Go to the portal"),
        Link::Viewer(session) => (format!("/viewer/{session}"), "Open it again"),
    };
    // A frame must not navigate the viewer, so the link opens a window.
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
        <title>{title}</title><style>{STYLE}</style>\
        <main><h1>{title}</h1><p>{text}</p><p><a href=\"{}{to}\" target=\"_blank\" rel=\"noopener\">{link}</a></p></main></html>\n",
        settings.gateway()
    );
    let mut response = Response::new(full_body(html.into()));
    *response.status_mut() = *status;
    let policy =
        format!("{}; frame-ancestors 'self' {}", *PAGE_POLICY, settings.gateways.join(" "));
    add_headers(&mut response, "text/html; charset=utf-8", &policy);
    response
}

fn add_headers(response: &mut Response<Body>, kind: &'static str, policy: &str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("origin-agent-cluster", HeaderValue::from_static("?1"));
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}
