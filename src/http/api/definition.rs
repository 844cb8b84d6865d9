//! What an API consists of: routes, error body, authentication and OpenAPI document.
//!
//! A route is declared once, by the `#[utoipa::path]` attribute of its handler. Method, path,
//! operation id and access are read from it; [`api_routes!`](crate::api_routes) turns a list of
//! handlers into [`Route`]s.

use crate::domain::principal::Principal;
use crate::http::error::{ApiError, ApiResult};
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use std::sync::Arc;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, path::Operation};

/// Authenticates a request: the caller, or the error that refuses it.
pub type Authenticate = fn(HttpRequest) -> LocalBoxFuture<'static, ApiResult<Principal>>;

/// An API.
pub struct Api {
    /// Paths that start with it get this API's error body, also where no route matches. Of several
    /// that match the longest counts.
    pub prefix: &'static str,
    pub routes: Vec<Route>,
    /// Renders an error: status, headers and body.
    pub error_response: fn(&ApiError) -> HttpResponse,
    /// Runs before the handlers of routes that are not public.
    pub authenticate: Authenticate,
    /// The OpenAPI document, JSON.
    pub document: Bytes,
}

/// Who may call a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everybody, rate limited per address. The handler may authenticate by itself.
    Public,
    /// Callers that [`Api::authenticate`] accepts.
    Authenticated,
}

/// A route: its place in the API, its description, and its handler.
#[derive(Clone)]
pub struct Route {
    pub method: Method,
    /// Path pattern, such as `/api/sessions/{id}`.
    pub path: String,
    /// Unique within the API.
    pub operation_id: String,
    pub access: Access,
    description: OpenApi,
    handler: fn(Method) -> actix_web::Route,
}

impl Route {
    /// Reads the route from a document of exactly one operation, as [`api_routes!`](crate::api_routes)
    /// makes it.
    ///
    /// # Panics
    /// When the document has no operation, or several.
    #[must_use]
    pub fn new(description: OpenApi, handler: fn(Method) -> actix_web::Route) -> Self {
        let mut operations = operations(&description);
        let (path, method, operation) = operations.next().expect("the handler has no operation");
        assert!(operations.next().is_none(), "the handler of {path} has several operations");
        let (path, operation_id) = (path.to_owned(), operation.operation_id.clone());
        let access = access_of(operation);
        drop(operations);
        Self {
            method,
            operation_id: operation_id.unwrap_or_default(),
            access,
            path,
            description,
            handler,
        }
    }

    pub(super) fn service(&self) -> actix_web::Route {
        (self.handler)(self.method.clone())
    }
}

/// Public when the operation has no security requirement, or an empty one beside others: then the
/// handler decides by what is asked.
fn access_of(operation: &Operation) -> Access {
    let required = operation.security.as_deref().unwrap_or_default();
    if required.is_empty() || required.contains(&SecurityRequirement::default()) {
        Access::Public
    } else {
        Access::Authenticated
    }
}

fn operations(document: &OpenApi) -> impl Iterator<Item = (&str, Method, &Operation)> {
    document.paths.paths.iter().flat_map(|(path, item)| {
        [
            (Method::GET, &item.get),
            (Method::POST, &item.post),
            (Method::PUT, &item.put),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ]
        .into_iter()
        .filter_map(move |(method, operation)| Some((path.as_str(), method, operation.as_ref()?)))
    })
}

/// Adds the operations and schemas of all routes to a document.
#[must_use]
pub fn describe(mut document: OpenApi, routes: &[Route]) -> OpenApi {
    for route in routes {
        document.merge(route.description.clone());
    }
    document
}

/// Makes the [`Route`]s of handlers that have a `#[utoipa::path]` attribute:
/// `api_routes![sessions::list, sessions::get]`.
#[macro_export]
macro_rules! api_routes {
    ($($module:ident :: $handler:ident),+ $(,)?) => {
        vec![$({
            #[derive(utoipa::OpenApi)]
            #[openapi(paths($module::$handler))]
            struct Description;
            $crate::http::api::definition::Route::new(
                <Description as utoipa::OpenApi>::openapi(),
                |method| actix_web::web::method(method).to($module::$handler),
            )
        }),+]
    };
}

/// The APIs that a gateway serves.
#[derive(Clone)]
pub struct Apis(Arc<[Arc<Api>]>);

impl Apis {
    /// # Panics
    /// Without a default, an API whose prefix is `/`.
    #[must_use]
    pub fn new(mut apis: Vec<Arc<Api>>) -> Self {
        apis.sort_by_key(|api| std::cmp::Reverse(api.prefix.len()));
        assert_eq!(apis.last().map(|api| api.prefix), Some("/"), "an API serves the other paths");
        Self(apis.into())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Api>> {
        self.0.iter()
    }

    /// The API that a path belongs to.
    #[must_use]
    pub fn of_path(&self, path: &str) -> &Arc<Api> {
        let last = self.0.len() - 1;
        self.0.iter().find(|api| path.starts_with(api.prefix)).unwrap_or(&self.0[last])
    }
}
