//! The body of a request on its way to the application, in a task of its own: the answer may come,
//! and be large, before the application has read all.

use super::body::{BoxError, RequestBody};
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

/// Why a body did not come to its end.
pub(super) enum UploadError {
    /// The application takes no more of it.
    Upstream(io::Error),
    /// The browser, or the rules, let no more of it come.
    Browser(BoxError),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        Self::Upstream(error)
    }
}

impl From<UploadError> for BoxError {
    fn from(broken: UploadError) -> Self {
        match broken {
            UploadError::Upstream(error) => error.into(),
            UploadError::Browser(error) => error,
        }
    }
}

/// A body that is being sent. Dropped, it is not sent any further.
pub(super) struct Upload(AbortOnDropHandle<Result<Writer, UploadError>>);

impl Upload {
    /// Begins to send a body.
    pub(super) fn spawn(body: Box<RequestBody>, writer: Writer) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(send(body, writer))))
    }

    /// The writer, once the body is sent.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Writer, UploadError>> {
        self.0
            .poll_unpin(cx)
            .map(|ended| ended.unwrap_or_else(|error| Err(UploadError::Browser(error.into()))))
    }
}

async fn send(mut body: Box<RequestBody>, mut writer: Writer) -> Result<Writer, UploadError> {
    // What is written is what the head said, whatever comes: octets beyond it would be another
    // request's.
    let mut left = body.length();
    let mut trailers = None;
    while left != Some(0) {
        let Some(frame) =
            poll_fn(|cx| body.poll(cx)).await.transpose().map_err(UploadError::Browser)?
        else {
            break;
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => match &mut left {
                Some(left) => {
                    *left = left
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
    match left {
        Some(0) => {}
        Some(_) => return Err(UploadError::Browser("less than its length".into())),
        None => match trailers {
            Some(trailers) => write(&mut writer, &chunked::last_chunk(&trailers)[..]).await?,
            None => write(&mut writer, chunked::LAST_CHUNK).await?,
        },
    }
    Ok(writer)
}

async fn write(writer: &mut Writer, mut octets: impl Buf) -> io::Result<()> {
    writer.write_all_buf(&mut octets).await?;
    writer.flush().await
}
