//! Serves an API: routing, authentication before the handlers, 405.

use super::definition::{Access, Api, Route};
use crate::http::actix_exchange::connection_of;
use crate::http::error::{ApiError, ApiResult};
use crate::http::extract::RequestMeta;
use crate::http::state::app_state;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use tracing::Instrument as _;

/// Adds the routes of an API to an application.
pub fn mount(cfg: &mut web::ServiceConfig, api: &Arc<Api>) {
    // actix takes the first pattern that matches. In this order literals precede parameters, since
    // `{` sorts after every letter and digit.
    let mut by_path = BTreeMap::<&str, Vec<&Route>>::new();
    for route in &api.routes {
        by_path.entry(&route.path).or_default().push(route);
    }
    for (path, routes) in by_path {
        let allow: Rc<str> =
            routes.iter().map(|r| r.method.as_str()).collect::<Vec<_>>().join(", ").into();
        let access: Rc<[(Method, Access)]> =
            routes.iter().map(|r| (r.method.clone(), r.access)).collect();
        let mut resource = web::resource(path);
        for route in routes {
            resource = resource.route(route.service());
        }
        let api = Arc::clone(api);
        cfg.service(
            resource.default_service(web::to(move || method_not_allowed(Rc::clone(&allow)))).wrap(
                from_fn(move |req: ServiceRequest, next: Next<BoxBody>| {
                    guard(Arc::clone(&api), access_to(&access, req.method()), req, next)
                }),
            ),
        );
    }
}

/// Access to a method of a resource; to one that it does not have, as to the others.
fn access_to(routes: &[(Method, Access)], method: &Method) -> Access {
    let exact = routes.iter().find(|(other, _)| other == method);
    exact.or(routes.first()).map_or(Access::Authenticated, |(_, access)| *access)
}

/// 405 with the methods the path has.
///
/// # Errors
/// Always.
pub async fn method_not_allowed(allow: impl AsRef<str>) -> ApiResult {
    Err::<HttpResponse, _>(ApiError::method_not_allowed(allow.as_ref()))
}

/// The middleware of every API resource.
async fn guard(
    api: Arc<Api>,
    access: Access,
    req: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse, actix_web::Error> {
    if let Err(error) = authorize(&api, access, req.request()).await {
        return Ok(req.error_response(error));
    }
    if req.method().is_safe() {
        return next.call(req).await;
    }
    // An unsafe request runs in a task of its own, so that it completes although its client
    // disconnects meanwhile.
    match actix_web::rt::spawn(next.call(req).in_current_span()).await {
        Ok(done) => done,
        Err(_) => Err(ApiError::internal().into()),
    }
}

async fn authorize(api: &Api, access: Access, req: &HttpRequest) -> ApiResult<()> {
    match access {
        Access::Public => {
            let RequestMeta(source) = RequestMeta::of(req);
            let limiter = &app_state(req)?.limits.anonymous;
            limiter.check(source.source_ip).map_err(ApiError::rate_limited)
        }
        Access::Authenticated => {
            let caller = (api.authenticate)(req.clone()).await?;
            if let Some(connection) = connection_of(req) {
                connection.set_authenticated();
            }
            req.extensions_mut().insert(caller);
            Ok(())
        }
    }
}
