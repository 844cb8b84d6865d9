//! A connection to the application: one request at a time, written and answered in the browser's
//! own task, so that nobody is woken in between. Only a request whose body comes bit by bit has a
//! task for that ([`Upload`]): an application may answer before it has read all.
//!
//! ```text
//! idle ── head, and what body there is ──> awaiting ── interim answers ──> awaiting ── answer ──> Received ── whole ──> idle
//!                                                                                        └─ 101 ──> another protocol's
//! ```

use super::app::Shared;
use super::body::RequestBody;
use super::error::ProxyError;
use super::request_log::RequestProgress;
use super::response_body::ResponseBody;
use super::upload::{Upload, UploadError};
use crate::protocol::http1::{Head, HeadDecoder, Malformed, is_persistent, response_framing};
use crate::viewer::Duplex;
use crate::viewer::revocation::RevocationToken;
use bytes::{Bytes, BytesMut};
use hyper::{Method, Response, StatusCode};
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

/// Most interim answers before the last one.
const INTERIM_MAX: usize = 64;
/// Room for what is read at a time, in bytes: for most answers, and where the last read filled it.
/// It is made anew when a quarter is left.
const READ_BUF: usize = 8 * 1024;
const READ_BUF_BULK: usize = 128 * 1024;

type Stream = Box<dyn Duplex>;

/// A request as it goes out.
pub(super) struct OutboundRequest {
    /// Its head, whole.
    head: Vec<u8>,
    /// It is HEAD.
    is_head_request: bool,
    /// What comes after the head; taken when it begins to be sent.
    body: Option<Box<RequestBody>>,
    /// It may be sent twice: it has no body, and asking twice does no more than asking once (RFC
    /// 9110 section 9.2.2).
    pub(super) is_retryable: bool,
}

impl OutboundRequest {
    /// Of a head without its empty line.
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

/// Why there is no answer.
pub(super) enum ExchangeError {
    /// The connection took nothing of the request.
    Unsent(io::Error),
    /// It ended without a byte of an answer.
    NoResponse(io::Error),
    /// It makes no sense to ask again.
    Final(ProxyError),
}

impl From<ExchangeError> for ProxyError {
    fn from(failure: ExchangeError) -> Self {
        match failure {
            ExchangeError::Unsent(error) | ExchangeError::NoResponse(error) => {
                Self::ConnectionClosed(error)
            }
            ExchangeError::Final(fault) => fault,
        }
    }
}

/// See the module.
pub(super) struct Connection {
    reader: ReadHalf<Stream>,
    /// Not here while, and after, a task writes a request's body.
    writer: Option<WriteHalf<Stream>>,
    /// The request's body, which was not sent to its end yet.
    upload: Option<Upload>,
    /// What has arrived and nobody has read.
    pub(super) read_buf: BytesMut,
    /// The last read filled what there was to fill.
    is_bulk: bool,
    /// Ends the wait for an answer. It is kept from one request to the next, and put forward only
    /// when it rings: setting it for each would tell the runtime's clock twice a request.
    timer: Pin<Box<Sleep>>,
    /// The thread whose clock the timer is of.
    last_thread: ThreadId,
    revocation: RevocationToken,
    /// Counts the connection, until it is closed.
    permit: Arc<OwnedSemaphorePermit>,
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        seat: OwnedSemaphorePermit,
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
            permit: Arc::new(seat),
        }
    }

    /// The thread that used it last.
    pub(super) fn last_thread(&self) -> ThreadId {
        self.last_thread
    }

    /// This thread uses it from now on. That of another thread's clock ends with that thread.
    pub(super) fn move_to_current_thread(&mut self) {
        let here = thread::current().id();
        if self.last_thread != here {
            self.timer = Box::pin(sleep(Duration::ZERO));
            self.last_thread = here;
        }
    }

    /// Whether it may be asked again: the last request was sent to its end, and the application
    /// said nothing that nobody asked for.
    pub(super) fn is_reusable(&self) -> bool {
        self.writer.is_some() && self.read_buf.is_empty()
    }

    /// Whether it can be asked now: the application neither closed it nor says anything meanwhile.
    pub(super) fn is_open_and_silent(&mut self) -> bool {
        let mut octet = [0];
        let mut octet = ReadBuf::new(&mut octet);
        Pin::new(&mut self.reader)
            .poll_read(&mut Context::from_waker(Waker::noop()), &mut octet)
            .is_pending()
    }

    /// Gives back memory that only a connection in use needs.
    pub(super) fn release_buffer(&mut self) {
        self.read_buf = BytesMut::new();
        self.is_bulk = false;
    }

    /// Reads some of what comes; nothing at its end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = if self.is_bulk { READ_BUF_BULK } else { READ_BUF };
        if self.read_buf.capacity() - self.read_buf.len() < wanted / 4 {
            self.read_buf.reserve(wanted);
        }
        let room = self.read_buf.capacity() - self.read_buf.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.reader), cx, &mut self.read_buf))?;
        self.is_bulk = read == room || (self.is_bulk && read > READ_BUF);
        Poll::Ready(Ok(read))
    }

    /// See [`Cut::is_over_or_wakes`].
    pub(super) fn is_revoked_or_register(&self, cx: &Context<'_>) -> bool {
        self.revocation.is_revoked_or_register(cx)
    }

    /// Takes the writer back once the request's body is sent. Ready: why it never will be, where
    /// that ends the answer, too.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<UploadError> {
        let Some(sending) = &mut self.upload else { return Poll::Pending };
        let ended = ready!(sending.poll(cx));
        self.upload = None;
        match ended {
            Ok(writer) => self.writer = Some(writer),
            // It may say why it takes no more, or answer to the end all the same.
            Err(UploadError::Upstream(error)) if error.kind() != ErrorKind::TimedOut => {}
            Err(broken) => return Poll::Ready(broken),
        }
        Poll::Pending
    }

    /// The stream itself and what has arrived of it, for another protocol; `None` when a body is
    /// still being sent.
    pub(super) fn into_stream(self) -> Option<(Stream, Bytes, Arc<OwnedSemaphorePermit>)> {
        let stream = self.reader.unsplit(self.writer?);
        Some((stream, self.read_buf.freeze(), self.permit))
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(
        mut self,
        shared: &Arc<Shared>,
        request: &mut OutboundRequest,
        flow: &Arc<RequestProgress>,
    ) -> Result<Response<ResponseBody>, ExchangeError> {
        self.send(request).await?;
        let head = self.read_head(shared, flow).await?;
        let framing = response_framing(&head, request.is_head_request).map_err(invalid_response)?;
        let keeps = is_persistent(&head, framing);
        let Head { status, fields, .. } = head;
        let received = if status == StatusCode::SWITCHING_PROTOCOLS {
            ResponseBody::upgraded(self, Arc::clone(shared))
        } else {
            ResponseBody::new(self, framing, keeps, Arc::clone(shared))
        };
        let mut response = Response::new(received);
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        Ok(response)
    }

    /// Writes the head, and begins to write the body.
    async fn send(&mut self, request: &mut OutboundRequest) -> Result<(), ExchangeError> {
        let mut sent = 0;
        let outcome = {
            let Some(writer) = &mut self.writer else {
                return Err(ExchangeError::Unsent(ErrorKind::BrokenPipe.into()));
            };
            let writes = async {
                while let Some(rest) = request.head.get(sent..).filter(|rest| !rest.is_empty()) {
                    match writer.write(rest).await? {
                        0 => return Err(ErrorKind::WriteZero.into()),
                        many => sent += many,
                    }
                }
                writer.flush().await
            };
            self.revocation
                .run_until_revoked(writes)
                .await
                .ok_or(ExchangeError::Final(ProxyError::SessionEnded))?
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(ExchangeError::Final(ProxyError::ResponseTimeout));
            }
            Err(error) if sent == 0 => return Err(ExchangeError::Unsent(error)),
            // It may have said why it takes no more.
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

    /// Waits for the head of the answer, as long as the request moves, and not much longer.
    async fn read_head(
        &mut self,
        shared: &Shared,
        flow: &RequestProgress,
    ) -> Result<Head, ExchangeError> {
        let (mut reader, mut any, mut interim) = (HeadDecoder::default(), false, 0);
        let began = Instant::now();
        loop {
            // Before the first octet there is nothing to read.
            if !self.read_buf.is_empty() {
                any = true;
                match reader.decode(&mut self.read_buf) {
                    // Interim answers (RFC 9110 section 15.2) are for this hop; a change of
                    // protocol is the last of it.
                    Ok(Some(head))
                        if head.status.is_informational()
                            && head.status != StatusCode::SWITCHING_PROTOCOLS =>
                    {
                        if head.status == StatusCode::CONTINUE {
                            flow.release_body();
                        }
                        interim += 1;
                        if interim > INTERIM_MAX {
                            return Err(ExchangeError::Final(ProxyError::InvalidResponse(
                                "it answers without an end".into(),
                            )));
                        }
                        continue;
                    }
                    Ok(Some(head)) => return Ok(head),
                    Ok(None) => {}
                    Err(malformed) => return Err(invalid_response(malformed)),
                }
            }
            let filled = std::future::poll_fn(|cx| self.poll_head(cx, shared, flow, began)).await;
            match filled.map_err(ExchangeError::Final)? {
                Ok(1..) => {}
                Ok(0) if any => {
                    return Err(ExchangeError::Final(ProxyError::ConnectionClosed(
                        ErrorKind::UnexpectedEof.into(),
                    )));
                }
                Ok(0) => return Err(ExchangeError::NoResponse(ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    return Err(ExchangeError::Final(ProxyError::ResponseTimeout));
                }
                Err(error) if any || !is_disconnect(&error) => {
                    return Err(ExchangeError::Final(ProxyError::ConnectionClosed(error)));
                }
                Err(error) => return Err(ExchangeError::NoResponse(error)),
            }
        }
    }

    /// Some more of the head; a fault where it is not waited for any longer.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        flow: &RequestProgress,
        began: Instant,
    ) -> Poll<Result<io::Result<usize>, ProxyError>> {
        if let Poll::Ready(read) = self.poll_fill(cx) {
            return Poll::Ready(Ok(read));
        }
        match self.poll_upload(cx) {
            Poll::Ready(UploadError::Upstream(_)) => {
                return Poll::Ready(Err(ProxyError::ResponseTimeout));
            }
            Poll::Ready(UploadError::Browser(error)) => {
                return Poll::Ready(Err(ProxyError::ConnectionClosed(io::Error::other(error))));
            }
            Poll::Pending => {}
        }
        let patience = shared.limits().head;
        while self.timer.as_mut().poll(cx).is_ready() {
            let until = flow.last_progress().max(began) + patience;
            if until <= Instant::now() {
                return Poll::Ready(Err(if flow.is_body_incomplete() {
                    ProxyError::RequestTimeout
                } else {
                    ProxyError::ResponseTimeout
                }));
            }
            self.timer.as_mut().reset(until.into());
        }
        if self.is_revoked_or_register(cx) {
            Poll::Ready(Err(ProxyError::SessionEnded))
        } else {
            Poll::Pending
        }
    }
}

fn invalid_response(malformed: Malformed) -> ExchangeError {
    ExchangeError::Final(ProxyError::InvalidResponse(Box::new(malformed)))
}

fn is_disconnect(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
