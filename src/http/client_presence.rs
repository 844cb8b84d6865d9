//! Whether the client of a request is still there: work that only answers it ends with it.
//!
//! A handler runs to its end whoever waits for its response, which a change needs and a search does
//! not. HTTP/1.1 has no other way to give a request up than the end of the connection, which its
//! byte stream reports; of HTTP/2 (RFC 9113 section 6.4) hyper drops what it waits for.

use super::error::{ApiError, ApiResult};
use crate::domain;
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use futures_util::FutureExt as _;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use tokio::sync::watch;

/// The server's side: the client has left when it is told so, or when this is dropped.
#[derive(Debug)]
pub(in crate::http) struct ClientEnd(watch::Sender<bool>);

/// The handler's side, stored with the connection (HTTP/1.1) or the request (HTTP/2).
#[derive(Clone, Debug)]
pub(in crate::http) struct ClientWatch(watch::Receiver<bool>);

impl Default for ClientEnd {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl ClientEnd {
    pub(in crate::http) fn set_left(&self) {
        self.0.send_replace(true);
    }

    pub(in crate::http) fn watch(&self) -> ClientWatch {
        ClientWatch(self.0.subscribe())
    }
}

/// The client of a request, for handlers that do nothing but answer it.
#[derive(Debug)]
pub struct ClientPresence(Option<ClientWatch>);

impl FromRequest for ClientPresence {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let of_http1 = req.conn_data::<ClientWatch>().cloned();
        ready(Ok(Self(of_http1.or_else(|| req.extensions().get::<ClientWatch>().cloned()))))
    }
}

impl ClientPresence {
    /// Runs `work`, and drops it when the client leaves.
    ///
    /// # Errors
    /// The work's; when the client has left, one that nobody reads.
    pub async fn serve<T>(
        &mut self,
        work: impl Future<Output = domain::Result<T>>,
    ) -> ApiResult<T> {
        let mut work = pin!(work.fuse());
        let mut left = pin!(self.left().fuse());
        futures_util::select_biased! {
            outcome = work => Ok(outcome?),
            () = left => Err(ApiError::client_left()),
        }
    }

    async fn left(&mut self) {
        match &mut self.0 {
            // An error: the server's side was dropped.
            Some(ClientWatch(left)) => drop(left.wait_for(|left| *left).await),
            None => std::future::pending().await,
        }
    }
}

impl ApiError {
    /// 499, as nginx logs it: the client has left before the response.
    fn client_left() -> Self {
        let status = StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT);
        Self::new(status, "The client has left")
    }
}
