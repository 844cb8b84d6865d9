//! The whole surface on one screen. What is not here does not exist (404); a method that is not
//! here is refused (405).
//!
//! `signed`: a valid token or cookie comes first, the handler finds the caller. `open`: anybody may
//! ask, the handler decides by what is asked. Where a path has an id, fixed words come before it.

use super::api::{audit, auth, events, hosts, ops, requests, sessions, users, workspaces};
use super::error::method_not_allowed;
use super::guard::{Access, guard};
use super::{pages, stream};
use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::middleware::{Compress, Next, from_fn};
use actix_web::web;

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Method.
    pub method: &'static str,
    /// Path pattern.
    pub path: &'static str,
    /// Who may come.
    pub access: Access,
}

macro_rules! table {
    ($($access:ident $path:literal { $($method:ident $handler:path),+ })+) => {
        /// Every route of the API.
        pub const TABLE: &[Route] = &[$($(Route { method: stringify!($method), path: $path, access: Access::$access },)+)+];

        fn api(cfg: &mut web::ServiceConfig) {
            $(cfg.service(
                web::resource($path)
                    $(.route(web::method(Method::$method).to($handler)))+
                    .default_service(web::to(|| method_not_allowed(&[$(stringify!($method)),+])))
                    .wrap(from_fn(|req: ServiceRequest, next: Next<BoxBody>| guard(Access::$access, req, next))),
            );)+
        }
    };
}

table! {
    Open   "/api/auth/login"                   { POST auth::login }
    Open   "/api/auth/mfa/verify"              { POST auth::mfa_verify }
    Open   "/api/auth/mfa/totp/enroll"         { POST auth::totp_enroll }
    Open   "/api/auth/mfa/totp/confirm"        { POST auth::totp_confirm }
    Open   "/api/auth/refresh"                 { POST auth::refresh }
    Signed "/api/auth/logout"                  { POST auth::logout }
    Signed "/api/auth/me"                      { GET auth::me }
    Signed "/api/auth/logins"                  { GET auth::logins }
    Signed "/api/auth/logins/{id}/sign-out"    { POST auth::end_login }

    Signed "/api/workspaces"                   { GET workspaces::list, POST workspaces::create }
    Signed "/api/workspaces/{id}"              { GET workspaces::get, PATCH workspaces::update, DELETE workspaces::delete }
    Signed "/api/workspaces/{id}/launch"       { POST workspaces::launch }
    Signed "/api/workspaces/{id}/stop"         { POST workspaces::stop }
    Signed "/api/workspaces/{id}/credential"   { PUT workspaces::save_credential, DELETE workspaces::forget_credential }
    Signed "/api/workspaces/{id}/certificate/accept" { POST workspaces::accept_certificate }

    Signed "/api/sessions"                     { GET sessions::list }
    Signed "/api/sessions/active"              { GET sessions::active }
    Signed "/api/sessions/{id}"                { GET sessions::get }
    Signed "/api/sessions/{id}/disconnect"     { POST sessions::disconnect }
    Signed "/api/sessions/{id}/ticket"         { POST sessions::ticket }
    Signed "/api/sessions/{id}/credential"     { POST sessions::enter_credential }
    Signed "/api/sessions/{id}/requests"       { GET requests::list }
    Open   "/api/sessions/{id}/stream"         { GET stream::open }
    Signed "/api/admin/sessions"               { GET sessions::all_live }
    Signed "/api/admin/sessions/{id}/terminate"{ POST sessions::terminate }

    Signed "/api/users"                        { GET users::list, POST users::create }
    Signed "/api/users/{id}"                   { PATCH users::update }
    Signed "/api/users/{id}/reset-mfa"         { POST users::reset_mfa }
    Signed "/api/users/{id}/sign-out"          { POST users::sign_out }

    Signed "/api/hosts"                        { GET hosts::list }
    Signed "/api/hosts/join-tokens"            { POST hosts::create_join_token }
    Open   "/api/hosts/enroll"                 { POST hosts::enroll }
    Signed "/api/hosts/peers"                  { POST hosts::add_peer }
    Signed "/api/hosts/{id}"                   { DELETE hosts::remove }
    Signed "/api/hosts/{id}/config"            { POST hosts::config }

    Signed "/api/audit"                        { GET audit::list }
    Signed "/api/audit/export"                 { GET audit::export }
    Signed "/api/audit/verify"                 { GET audit::verify }

    Signed "/api/events"                       { GET events::events }
    Open   "/api/health"                       { GET ops::health }
    Open   "/api/openapi.json"                 { GET ops::openapi }
    Open   "/.well-known/jwks.json"            { GET ops::jwks }
    Open   "/metrics"                          { GET ops::metrics }
}

/// Addresses that show the console; its own router knows which screen.
pub const CONSOLE: &[&str] = &[
    "/",
    "/signin",
    "/account",
    "/sessions",
    "/audit",
    "/requests",
    "/admin/workspaces",
    "/admin/users",
    "/admin/hosts",
];

/// Adds every route and page to an application.
pub fn configure(cfg: &mut web::ServiceConfig) {
    api(cfg);
    for path in CONSOLE {
        cfg.service(
            page(path).route(web::get().to(pages::console)).route(web::head().to(pages::console)),
        );
    }
    cfg.service(
        page("/viewer/{id}")
            .route(web::get().to(pages::viewer))
            .route(web::head().to(pages::viewer)),
    )
    .service(web::scope("/assets").wrap(Compress::default()).service(
        page("/{file:.*}").route(web::get().to(pages::asset)).route(web::head().to(pages::asset)),
    ))
    .service(
        page("/{file:[a-z0-9-]+\\.(?:svg|ico|png|txt|webmanifest)}")
            .route(web::get().to(pages::root_file))
            .route(web::head().to(pages::root_file)),
    );
}

fn page(path: &str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(|| method_not_allowed(&["GET", "HEAD"])))
}
