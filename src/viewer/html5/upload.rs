//! Sends a request body to the application, in a task of its own: the application may respond, at
//! length, before it has read the whole body.

use super::body::BoxError;
use super::request_body::RequestBody;
use crate::protocol::http1::chunked;
use crate::viewer::Duplex;
use bytes::{Buf, Bytes};
use futures_util::FutureExt as _;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use tokio::io::{AsyncWriteExt as _, WriteHalf};
use tokio_util::task::AbortOnDropHandle;

type Writer = WriteHalf<Box<dyn Duplex>>;

/// Why a body was not sent completely.
pub(super) enum UploadError {
    /// The application does not accept more of it.
    Upstream(io::Error),
    /// The browser does not send more of it, or policy does not allow more.
    Browser(BoxError),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        Self::Upstream(error)
    }
}

impl From<UploadError> for BoxError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Upstream(error) => error.into(),
            UploadError::Browser(error) => error,
        }
    }
}

/// A body being sent. Dropping it aborts the task.
pub(super) struct Upload(AbortOnDropHandle<Result<Writer, UploadError>>);

impl Upload {
    pub(super) fn spawn(body: Box<RequestBody>, writer: Writer) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(send(body, writer))))
    }

    /// Returns the writer when the body is sent.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Writer, UploadError>> {
        self.0
            .poll_unpin(cx)
            .map(|joined| joined.unwrap_or_else(|error| Err(UploadError::Browser(error.into()))))
    }
}

async fn send(mut body: Box<RequestBody>, mut writer: Writer) -> Result<Writer, UploadError> {
    // Exactly as many bytes are written as the head declares: further ones would be read as the next
    // request.
    let mut remaining = body.length();
    let mut trailers = None;
    while remaining != Some(0) {
        let frame = poll_fn(|cx| body.poll(cx)).await.transpose().map_err(UploadError::Browser)?;
        let Some(frame) = frame else { break };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => match &mut remaining {
                Some(remaining) => {
                    *remaining = remaining
                        .checked_sub(data.len() as u64)
                        .ok_or_else(|| UploadError::Browser("more than its length".into()))?;
                    write(&mut writer, data).await?;
                }
                None => {
                    let chunk = Bytes::from(chunked::size_line(data.len()))
                        .chain(data)
                        .chain(chunked::CRLF);
                    write(&mut writer, chunk).await?;
                }
            },
            Err(other) => trailers = other.into_trailers().ok(),
        }
    }
    match remaining {
        Some(0) => {}
        Some(_) => return Err(UploadError::Browser("less than its length".into())),
        None => match trailers {
            Some(trailers) => write(&mut writer, &chunked::last_chunk(&trailers)[..]).await?,
            None => write(&mut writer, chunked::LAST_CHUNK).await?,
        },
    }
    Ok(writer)
}

async fn write(writer: &mut Writer, mut bytes: impl Buf) -> io::Result<()> {
    writer.write_all_buf(&mut bytes).await?;
    writer.flush().await
}
