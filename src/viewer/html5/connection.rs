//! A connection to the application: one request at a time, written and answered in the browser's
//! own task, so that no other task is woken in between. Only a request with a body has a task of
//! its own for that ([`Upload`]), because an application may respond before it has read all of it.
//!
//! ```text
//! idle ── head, start of the body ──> waiting ── interim responses ──> waiting ── response ──> body ── complete ──> idle
//!                                                                               └─ 101 ──> another protocol
//! ```

use super::error::ProxyError;
use super::progress::RequestProgress;
use super::request_body::RequestBody;
use super::revocation::RevocationToken;
use super::upload::{Upload, UploadError};
use crate::protocol::http1::{Framing, Head, HeadDecoder, Malformed, response_framing};
use crate::viewer::Duplex;
use bytes::{Bytes, BytesMut};
use hyper::{Method, StatusCode};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf, split};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_util::io::poll_read_buf;

/// Most interim responses before the final one.
const INTERIM_MAX: usize = 64;
/// Space for one read, in bytes: enough for most responses, and after a read that filled the
/// buffer. It is allocated anew when less than a quarter is left.
const READ_BUF: usize = 8 * 1024;
const READ_BUF_BULK: usize = 128 * 1024;

type Stream = Box<dyn Duplex>;

/// A request to the application.
pub(super) struct OutboundRequest {
    /// The complete head.
    head: Vec<u8>,
    is_head_request: bool,
    /// Taken when sending it starts.
    body: Option<Box<RequestBody>>,
    /// It may be sent twice: it has no body and an idempotent method (RFC 9110 section 9.2.2).
    pub(super) is_retryable: bool,
}

impl OutboundRequest {
    /// `head`: without its final empty line.
    pub(super) fn new(mut head: Vec<u8>, method: &Method, body: Option<Box<RequestBody>>) -> Self {
        head.extend_from_slice(b"\r\n");
        Self {
            head,
            is_head_request: *method == Method::HEAD,
            is_retryable: body.is_none() && method.is_idempotent(),
            body,
        }
    }
}

/// Why there is no response.
pub(super) enum ExchangeError {
    /// The connection accepted no byte of the request.
    Unsent(io::Error),
    /// It ended without a byte of a response.
    NoResponse(io::Error),
    /// The request must not be sent again.
    Final(ProxyError),
}

impl From<ExchangeError> for ProxyError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Unsent(error) | ExchangeError::NoResponse(error) => {
                Self::ConnectionClosed(error)
            }
            ExchangeError::Final(error) => error,
        }
    }
}

/// A response head, and the connection that the body arrives on.
pub(super) struct Exchanged {
    pub(super) head: Head,
    pub(super) framing: Framing,
    pub(super) connection: Connection,
}

/// A connection to the application.
pub(super) struct Connection {
    reader: ReadHalf<Stream>,
    /// `None` while a task sends a request body, and after it failed.
    writer: Option<WriteHalf<Stream>>,
    upload: Option<Upload>,
    /// Bytes read and not consumed yet.
    pub(super) read_buf: BytesMut,
    /// The last read filled the buffer.
    is_bulk: bool,
    /// Timeout of the wait for a response head. It is kept between requests and reset only when it
    /// fires: resetting it per request would take the runtime's timer lock twice per request.
    timer: Pin<Box<Sleep>>,
    /// The thread that used it last; its runtime drives the timer.
    last_thread: ThreadId,
    revocation: RevocationToken,
    /// Counts the connection until it is closed.
    permit: Arc<OwnedSemaphorePermit>,
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        permit: OwnedSemaphorePermit,
        revocation: RevocationToken,
    ) -> Self {
        let (reader, writer) = split(stream);
        Self {
            reader,
            writer: Some(writer),
            upload: None,
            read_buf: BytesMut::new(),
            is_bulk: false,
            timer: Box::pin(sleep(Duration::ZERO)),
            last_thread: thread::current().id(),
            revocation,
            permit: Arc::new(permit),
        }
    }

    pub(super) fn last_thread(&self) -> ThreadId {
        self.last_thread
    }

    /// Prepares it for use by the current thread. A timer stops with the runtime that drives it.
    pub(super) fn move_to_current_thread(&mut self) {
        let current = thread::current().id();
        if self.last_thread != current {
            self.timer = Box::pin(sleep(Duration::ZERO));
            self.last_thread = current;
        }
    }

    /// Whether it may carry another request: the last one was sent completely, nothing arrived that
    /// was not requested, and the session has not ended.
    pub(super) fn is_reusable(&self) -> bool {
        self.writer.is_some() && self.read_buf.is_empty() && !self.revocation.is_revoked()
    }

    /// Whether it may be used now: the application has neither closed it nor sent anything.
    pub(super) fn is_open_and_silent(&mut self) -> bool {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        Pin::new(&mut self.reader)
            .poll_read(&mut Context::from_waker(Waker::noop()), &mut byte)
            .is_pending()
    }

    /// Frees memory that an idle connection does not need.
    pub(super) fn release_buffer(&mut self) {
        self.read_buf = BytesMut::new();
        self.is_bulk = false;
    }

    /// Reads into the buffer; 0 bytes at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = if self.is_bulk { READ_BUF_BULK } else { READ_BUF };
        if self.read_buf.capacity() - self.read_buf.len() < wanted / 4 {
            self.read_buf.reserve(wanted);
        }
        let space = self.read_buf.capacity() - self.read_buf.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.reader), cx, &mut self.read_buf))?;
        self.is_bulk = read == space || (self.is_bulk && read > READ_BUF);
        Poll::Ready(Ok(read))
    }

    /// See [`RevocationToken::is_revoked_or_register`].
    pub(super) fn is_revoked_or_register(&self, cx: &Context<'_>) -> bool {
        self.revocation.is_revoked_or_register(cx)
    }

    /// Takes the writer back when the request body is sent. Ready: it failed in a way that ends the
    /// response, too.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<UploadError> {
        let Some(upload) = &mut self.upload else { return Poll::Pending };
        let outcome = ready!(upload.poll(cx));
        self.upload = None;
        match outcome {
            Ok(writer) => self.writer = Some(writer),
            // The application may respond with the reason, or completely all the same.
            Err(UploadError::Upstream(error)) if error.kind() != ErrorKind::TimedOut => {}
            Err(error) => return Poll::Ready(error),
        }
        Poll::Pending
    }

    /// The stream and the bytes read from it, for another protocol; `None` while a body is being
    /// sent.
    pub(super) fn into_stream(self) -> Option<(Stream, Bytes, Arc<OwnedSemaphorePermit>)> {
        let stream = self.reader.unsplit(self.writer?);
        Some((stream, self.read_buf.freeze(), self.permit))
    }

    /// Sends a request and waits for the response head. `timeout`: since the last progress of the
    /// request.
    pub(super) async fn exchange(
        mut self,
        request: &mut OutboundRequest,
        progress: &RequestProgress,
        timeout: Duration,
    ) -> Result<Exchanged, ExchangeError> {
        self.send(request).await?;
        let head = self.read_head(progress, timeout).await?;
        let framing = response_framing(&head, request.is_head_request).map_err(invalid_response)?;
        Ok(Exchanged { head, framing, connection: self })
    }

    /// Writes the head, and starts to send the body.
    async fn send(&mut self, request: &mut OutboundRequest) -> Result<(), ExchangeError> {
        let mut sent = 0;
        let outcome = {
            let Some(writer) = &mut self.writer else {
                return Err(ExchangeError::Unsent(ErrorKind::BrokenPipe.into()));
            };
            let write = async {
                while let Some(rest) = request.head.get(sent..).filter(|rest| !rest.is_empty()) {
                    match writer.write(rest).await? {
                        0 => return Err(ErrorKind::WriteZero.into()),
                        written => sent += written,
                    }
                }
                writer.flush().await
            };
            self.revocation
                .run_until_revoked(write)
                .await
                .ok_or(ExchangeError::Final(ProxyError::SessionEnded))?
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(ExchangeError::Final(ProxyError::ResponseTimeout));
            }
            Err(error) if sent == 0 => return Err(ExchangeError::Unsent(error)),
            // The application may have responded with the reason.
            Err(_) => {
                self.writer = None;
                return Ok(());
            }
        }
        if let Some(body) = request.body.take() {
            self.upload = self.writer.take().map(|writer| Upload::spawn(body, writer));
        }
        Ok(())
    }

    async fn read_head(
        &mut self,
        progress: &RequestProgress,
        timeout: Duration,
    ) -> Result<Head, ExchangeError> {
        let (mut decoder, mut received, mut interim) = (HeadDecoder::default(), false, 0);
        let started_at = Instant::now();
        loop {
            while !self.read_buf.is_empty() {
                received = true;
                match decoder.decode(&mut self.read_buf).map_err(invalid_response)? {
                    None => break,
                    Some(head) if !is_interim(head.status) => return Ok(head),
                    Some(head) if head.status == StatusCode::CONTINUE => progress.release_body(),
                    Some(_) => {}
                }
                interim += 1;
                if interim > INTERIM_MAX {
                    let reason = "too many interim responses".into();
                    return Err(ExchangeError::Final(ProxyError::InvalidResponse(reason)));
                }
            }
            let filled =
                std::future::poll_fn(|cx| self.poll_head(cx, progress, started_at, timeout)).await;
            match filled.map_err(ExchangeError::Final)? {
                Ok(1..) => {}
                Ok(0) => return Err(read_error(ErrorKind::UnexpectedEof.into(), received)),
                Err(error) => return Err(read_error(error, received)),
            }
        }
    }

    /// Reads more of the head. An error: the wait has ended.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        progress: &RequestProgress,
        started_at: Instant,
        timeout: Duration,
    ) -> Poll<Result<io::Result<usize>, ProxyError>> {
        if let Poll::Ready(read) = self.poll_fill(cx) {
            return Poll::Ready(Ok(read));
        }
        match self.poll_upload(cx) {
            Poll::Ready(UploadError::Upstream(_)) => {
                return Poll::Ready(Err(ProxyError::ResponseTimeout));
            }
            Poll::Ready(UploadError::Browser(error)) => {
                return Poll::Ready(Err(ProxyError::InvalidRequest(io::Error::other(error))));
            }
            Poll::Pending => {}
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let deadline = progress.last_progress().max(started_at) + timeout;
            if deadline <= Instant::now() {
                return Poll::Ready(Err(if progress.is_body_incomplete() {
                    ProxyError::RequestTimeout
                } else {
                    ProxyError::ResponseTimeout
                }));
            }
            self.timer.as_mut().reset(deadline.into());
        }
        if self.is_revoked_or_register(cx) {
            Poll::Ready(Err(ProxyError::SessionEnded))
        } else {
            Poll::Pending
        }
    }
}

/// Interim responses (RFC 9110 section 15.2) concern this hop alone; 101 is final.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// The error of a read of the head. `received`: some of a response has arrived.
fn read_error(error: io::Error, received: bool) -> ExchangeError {
    if error.kind() == ErrorKind::TimedOut {
        return ExchangeError::Final(ProxyError::ResponseTimeout);
    }
    if received || !is_disconnect(&error) {
        return ExchangeError::Final(ProxyError::ConnectionClosed(error));
    }
    ExchangeError::NoResponse(error)
}

fn invalid_response(malformed: Malformed) -> ExchangeError {
    ExchangeError::Final(ProxyError::InvalidResponse(Box::new(malformed)))
}

fn is_disconnect(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
