//! Stands in for the proxy until it is there: one connection per request, nothing mapped.
#![allow(missing_docs)]

use crate::broker::live::{Right, StreamGrant};
use crate::domain::LoginId;
use crate::domain::user::Origin;
use crate::viewer::Context;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

pub struct Place {
    pub origin: String,
    pub gateway_origin: String,
    pub cross_site: bool,
}

pub struct App {
    context: Context,
    from: Origin,
    grant: tokio::sync::Mutex<Option<StreamGrant>>,
    right: watch::Receiver<Right>,
    login: LoginId,
    place: Place,
    used: Mutex<Instant>,
}

impl App {
    pub fn open(context: &Context, from: Origin, grant: StreamGrant, place: Place) -> Arc<Self> {
        let login = grant.by().map_or_else(LoginId::new, |caller| caller.login_id);
        let right = grant.right.clone();
        let app = Self {
            context: context.clone(),
            from,
            grant: tokio::sync::Mutex::new(Some(grant)),
            right,
            login,
            place,
            used: Mutex::new(Instant::now()),
        };
        let app = Arc::new(app);
        let (keeper, mut right) = (Arc::clone(&app), app.right.clone());
        tokio::spawn(async move {
            drop(right.wait_for(|r| *r != Right::Held).await);
            keeper.close("ended").await;
        });
        app
    }

    pub async fn serve(self: &Arc<Self>, request: Request<Incoming>, _from: IpAddr) -> Response<Body> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let _ = (&self.place.origin, self.place.cross_site, &self.place.gateway_origin);
        self.pass(request).await.unwrap_or_else(|_| {
            let mut answer = Response::new(Full::new(Bytes::from_static(b"no answer")).map_err(|never| match never {}).boxed_unsync());
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        })
    }

    async fn pass(&self, mut request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let stream = match &*self.grant.lock().await {
            Some(grant) => self.context.dial.dial(&grant.lease).await?,
            None => return Err("closed".into()),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).parse()?;
        *request.uri_mut() = path;
        *request.version_mut() = hyper::Version::HTTP_11;
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("application"));
        Ok(sender.send_request(request).await?.map(|body| body.map_err(Into::into).boxed_unsync()))
    }

    pub async fn probe(&self) -> Result<(), std::io::Error> {
        match &*self.grant.lock().await {
            Some(grant) => self.context.dial.dial(&grant.lease).await.map(drop),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    pub fn end(&self) -> Option<&'static str> {
        self.grant.try_lock().is_ok_and(|grant| grant.is_none()).then_some("closed")
    }

    pub fn login(&self) -> LoginId {
        self.login
    }

    pub fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn close(&self, why: &'static str) {
        if let Some(grant) = self.grant.lock().await.take() {
            drop(self.context.broker.close_stream(&self.from, grant, why).await);
        }
    }
}
