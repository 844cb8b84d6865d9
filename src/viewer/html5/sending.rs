//! The body of a request on its way to the application, in a task of its own: the answer may come,
//! and be large, before the application has read all.

use super::body::{BoxError, Streaming};
use crate::protocol::http1::chunks;
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
pub(super) enum Broken {
    /// The application takes no more of it.
    Application(io::Error),
    /// The browser, or the rules, let no more of it come.
    Browser(BoxError),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Application(error)
    }
}

impl From<Broken> for BoxError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Application(error) => error.into(),
            Broken::Browser(error) => error,
        }
    }
}

/// A body that is being sent. Dropped, it is not sent any further.
pub(super) struct Sending(AbortOnDropHandle<Result<Writer, Broken>>);

impl Sending {
    /// Begins to send a body.
    pub(super) fn begin(body: Box<Streaming>, writer: Writer) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(send(body, writer))))
    }

    /// The writer, once the body is sent.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Writer, Broken>> {
        self.0
            .poll_unpin(cx)
            .map(|ended| ended.unwrap_or_else(|error| Err(Broken::Browser(error.into()))))
    }
}

async fn send(mut body: Box<Streaming>, mut writer: Writer) -> Result<Writer, Broken> {
    // What is written is what the head said, whatever comes: octets beyond it would be another
    // request's.
    let mut left = body.length();
    let mut trailers = None;
    while left != Some(0) {
        let Some(frame) = poll_fn(|cx| body.poll(cx)).await.transpose().map_err(Broken::Browser)?
        else {
            break;
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => match &mut left {
                Some(left) => {
                    *left = left
                        .checked_sub(data.len() as u64)
                        .ok_or_else(|| Broken::Browser("more than its length".into()))?;
                    write(&mut writer, data).await?;
                }
                None => {
                    let chunk =
                        Bytes::from(chunks::begin(data.len())).chain(data).chain(chunks::END);
                    write(&mut writer, chunk).await?;
                }
            },
            Err(other) => trailers = other.into_trailers().ok(),
        }
    }
    match left {
        Some(0) => {}
        Some(_) => return Err(Broken::Browser("less than its length".into())),
        None => match trailers {
            Some(trailers) => write(&mut writer, &chunks::last(&trailers)[..]).await?,
            None => write(&mut writer, chunks::LAST).await?,
        },
    }
    Ok(writer)
}

async fn write(writer: &mut Writer, mut octets: impl Buf) -> io::Result<()> {
    writer.write_all_buf(&mut octets).await?;
    writer.flush().await
}
