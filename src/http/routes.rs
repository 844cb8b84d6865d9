//! The routes of the gateway: its APIs and its pages. Any other path is 404, any other method 405.

use super::api::definition::Apis;
use super::api::mount::{method_not_allowed, mount};
use super::pages;
use actix_web::middleware::Compress;
use actix_web::web;

/// Paths of the console; its router in the browser selects the page.
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

/// Adds every route to an application.
pub fn configure(cfg: &mut web::ServiceConfig, apis: &Apis) {
    for api in apis.iter() {
        mount(cfg, api);
    }
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
    web::resource(path).default_service(web::to(|| method_not_allowed("GET, HEAD")))
}
