//! The control API's client, over a connection that the caller opened. It sends requests one after
//! another.

use super::messages::{
    BODY_MAX, Changes, DesktopInfo, ErrorBody, Health, LIST_MAX, Order, Started,
};
use crate::domain::SessionId;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

/// A request failed. There is no timeout here: the caller may drop each method's future.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the connection to the agent failed: {0}")]
    Connection(#[from] hyper::Error),
    #[error("{detail}")]
    Refused { status: u16, detail: String },
    #[error("the agent's answer makes no sense")]
    InvalidResponse,
}

/// A connection to an agent.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Starts HTTP/1.1 on a connection.
    ///
    /// # Errors
    /// [`ClientError::Connection`].
    pub async fn new(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, ClientError> {
        let (sender, connection) = handshake(TokioIo::new(io)).await?;
        let driver = tokio::spawn(async move {
            // Its failure is reported by the request that waits for it.
            let _ = connection.await;
        });
        Ok(Self { sender, driver: driver.abort_handle() })
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn health(&mut self) -> Result<Health, ClientError> {
        self.request(Method::GET, "/v1/health", Bytes::new()).await
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn desktops(&mut self) -> Result<Vec<DesktopInfo>, ClientError> {
        let bytes = self.send(Method::GET, "/v1/desktops", Bytes::new(), LIST_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|_| ClientError::InvalidResponse)
    }

    /// The count of changes, once it differs from `since`, or after
    /// [`super::messages::WATCH_WAIT`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn changed(&mut self, since: Option<u64>) -> Result<u64, ClientError> {
        let path = since
            .map_or_else(|| "/v1/changes".to_owned(), |since| format!("/v1/changes?since={since}"));
        self.request::<Changes>(Method::GET, &path, Bytes::new())
            .await
            .map(|changes| changes.generation)
    }

    /// Starts a desktop, or returns the one that the session has.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start(&mut self, order: &Order) -> Result<Started, ClientError> {
        let body = serde_json::to_vec(order).map_err(|_| ClientError::InvalidResponse)?;
        self.request(Method::POST, "/v1/desktops", body.into()).await
    }

    /// Ends a desktop, which has ended when this returns.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop(&mut self, session: SessionId) -> Result<(), ClientError> {
        let path = format!("/v1/desktops/{session}");
        self.send(Method::DELETE, &path, Bytes::new(), BODY_MAX).await.map(drop)
    }

    async fn request<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let bytes = self.send(method, path, body, BODY_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|_| ClientError::InvalidResponse)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        longest: usize,
    ) -> Result<Bytes, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "agent")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| ClientError::InvalidResponse)?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), longest)
            .collect()
            .await
            .map_err(|_| ClientError::InvalidResponse)?
            .to_bytes();
        if matches!(status, StatusCode::OK | StatusCode::NO_CONTENT) {
            return Ok(body);
        }
        let detail = serde_json::from_slice::<ErrorBody>(&body)
            .map_or_else(|_| "no reason given".to_owned(), |body| body.detail);
        // A host's text goes into logs and responses: limited, on one line.
        let detail = detail.chars().filter(|c| !c.is_control()).take(300).collect();
        Err(ClientError::Refused { status: status.as_u16(), detail })
    }
}
