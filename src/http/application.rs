//! The actix application of each worker.

use super::extract::BODY_MAX;
use super::state::AppState;
use super::{observe, pages, routes};
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::{App, web};

/// The application of a worker.
pub fn application(
    state: AppState,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let apis = state.apis.clone();
    App::new()
        .app_data(web::Data::new(state))
        .app_data(web::PayloadConfig::new(BODY_MAX))
        .configure(|cfg| routes::configure(cfg, &apis))
        .default_service(web::to(pages::not_found))
        .wrap(from_fn(observe::observe))
}
