//! A connection to the application: one request at a time, written and answered in the browser's
//! own task, so that nobody is woken in between. Only a request whose body comes bit by bit has a
//! task for that ([`Sending`]): an application may answer before it has read all.
//!
//! ```text
//! idle ── head, and what body there is ──> awaiting ── interim answers ──> awaiting ── answer ──> Received ── whole ──> idle
//!                                                                                        └─ 101 ──> another protocol's
//! ```

use super::app::Shared;
use super::body::Streaming;
use super::fault::Fault;
use super::received::Received;
use super::record::Flow;
use super::sending::{Broken, Sending};
use crate::protocol::http1::{Head, Malformed, Reader, is_kept, response_framing};
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
const READ: usize = 8 * 1024;
const READ_MORE: usize = 128 * 1024;

type Stream = Box<dyn Duplex>;

/// A request as it goes out.
pub(super) struct Outgoing {
    /// Its head, whole.
    head: Vec<u8>,
    /// It is HEAD.
    to_head: bool,
    /// What comes after the head; taken when it begins to be sent.
    body: Option<Box<Streaming>>,
    /// It may be sent twice: it has no body, and asking twice does no more than asking once (RFC
    /// 9110 section 9.2.2).
    pub(super) is_repeatable: bool,
}

impl Outgoing {
    /// Of a head without its empty line.
    pub(super) fn new(mut head: Vec<u8>, method: &Method, body: Option<Box<Streaming>>) -> Self {
        head.extend_from_slice(b"\r\n");
        Self {
            head,
            to_head: *method == Method::HEAD,
            is_repeatable: body.is_none() && method.is_idempotent(),
            body,
        }
    }
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The connection took nothing of the request.
    Unsent(io::Error),
    /// It ended without a byte of an answer.
    Unanswered(io::Error),
    /// It makes no sense to ask again.
    Final(Fault),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(error) | Failure::Unanswered(error) => Self::HungUp(error),
            Failure::Final(fault) => fault,
        }
    }
}

/// See the module.
pub(super) struct Connection {
    reader: ReadHalf<Stream>,
    /// Not here while, and after, a task writes a request's body.
    writer: Option<WriteHalf<Stream>>,
    /// The request's body, which was not sent to its end yet.
    sending: Option<Sending>,
    /// What has arrived and nobody has read.
    pub(super) arrived: BytesMut,
    /// The last read filled what there was to fill.
    is_bulk: bool,
    /// Ends the wait for an answer. It is kept from one request to the next, and put forward only
    /// when it rings: setting it for each would tell the runtime's clock twice a request.
    timer: Pin<Box<Sleep>>,
    /// The thread whose clock the timer is of.
    home: ThreadId,
    cut: RevocationToken,
    /// Counts the connection, until it is closed.
    seat: Arc<OwnedSemaphorePermit>,
}

impl Connection {
    pub(super) fn new(stream: Stream, seat: OwnedSemaphorePermit, cut: RevocationToken) -> Self {
        let (reader, writer) = split(stream);
        Self {
            reader,
            writer: Some(writer),
            sending: None,
            arrived: BytesMut::new(),
            is_bulk: false,
            timer: Box::pin(sleep(Duration::ZERO)),
            home: thread::current().id(),
            cut,
            seat: Arc::new(seat),
        }
    }

    /// The thread that used it last.
    pub(super) fn home(&self) -> ThreadId {
        self.home
    }

    /// This thread uses it from now on. That of another thread's clock ends with that thread.
    pub(super) fn come_home(&mut self) {
        let here = thread::current().id();
        if self.home != here {
            self.timer = Box::pin(sleep(Duration::ZERO));
            self.home = here;
        }
    }

    /// Whether it may be asked again: the last request was sent to its end, and the application
    /// said nothing that nobody asked for.
    pub(super) fn is_whole(&self) -> bool {
        self.writer.is_some() && self.arrived.is_empty()
    }

    /// Whether it can be asked now: the application neither closed it nor says anything meanwhile.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut octet = [0];
        let mut octet = ReadBuf::new(&mut octet);
        Pin::new(&mut self.reader)
            .poll_read(&mut Context::from_waker(Waker::noop()), &mut octet)
            .is_pending()
    }

    /// Gives back memory that only a connection in use needs.
    pub(super) fn shrink(&mut self) {
        self.arrived = BytesMut::new();
        self.is_bulk = false;
    }

    /// Reads some of what comes; nothing at its end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = if self.is_bulk { READ_MORE } else { READ };
        if self.arrived.capacity() - self.arrived.len() < wanted / 4 {
            self.arrived.reserve(wanted);
        }
        let room = self.arrived.capacity() - self.arrived.len();
        let read = ready!(poll_read_buf(Pin::new(&mut self.reader), cx, &mut self.arrived))?;
        self.is_bulk = read == room || (self.is_bulk && read > READ);
        Poll::Ready(Ok(read))
    }

    /// See [`RevocationToken::is_over_or_wakes`].
    pub(super) fn is_over_or_wakes(&self, cx: &Context<'_>) -> bool {
        self.cut.is_revoked_or_register(cx)
    }

    /// Takes the writer back once the request's body is sent. Ready: why it never will be, where
    /// that ends the answer, too.
    pub(super) fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let Some(sending) = &mut self.sending else { return Poll::Pending };
        let ended = ready!(sending.poll(cx));
        self.sending = None;
        match ended {
            Ok(writer) => self.writer = Some(writer),
            // It may say why it takes no more, or answer to the end all the same.
            Err(Broken::Application(error)) if error.kind() != ErrorKind::TimedOut => {}
            Err(broken) => return Poll::Ready(broken),
        }
        Poll::Pending
    }

    /// The stream itself and what has arrived of it, for another protocol; `None` when a body is
    /// still being sent.
    pub(super) fn into_stream(self) -> Option<(Stream, Bytes, Arc<OwnedSemaphorePermit>)> {
        let stream = self.reader.unsplit(self.writer?);
        Some((stream, self.arrived.freeze(), self.seat))
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn ask(
        mut self,
        shared: &Arc<Shared>,
        request: &mut Outgoing,
        flow: &Arc<Flow>,
    ) -> Result<Response<Received>, Failure> {
        self.send(request).await?;
        let head = self.head(shared, flow).await?;
        let framing = framing(&head, request.to_head).map_err(garbled)?;
        let keeps = is_kept(&head, framing);
        let Head { status, fields, .. } = head;
        let received = if status == StatusCode::SWITCHING_PROTOCOLS {
            Received::switched(self, Arc::clone(shared))
        } else {
            Received::new(self, framing, keeps, Arc::clone(shared))
        };
        let mut response = Response::new(received);
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        Ok(response)
    }

    /// Writes the head, and begins to write the body.
    async fn send(&mut self, request: &mut Outgoing) -> Result<(), Failure> {
        let mut sent = 0;
        let outcome = {
            let Some(writer) = &mut self.writer else {
                return Err(Failure::Unsent(ErrorKind::BrokenPipe.into()));
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
            self.cut.run_until_revoked(writes).await.ok_or(Failure::Final(Fault::Over))?
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(Failure::Final(Fault::Slow));
            }
            Err(error) if sent == 0 => return Err(Failure::Unsent(error)),
            // It may have said why it takes no more.
            Err(_) => {
                self.writer = None;
                return Ok(());
            }
        }
        if let Some(body) = request.body.take() {
            self.sending = self.writer.take().map(|writer| Sending::begin(body, writer));
        }
        Ok(())
    }

    /// Waits for the head of the answer, as long as the request moves, and not much longer.
    async fn head(&mut self, shared: &Shared, flow: &Flow) -> Result<Head, Failure> {
        let (mut reader, mut any, mut interim) = (Reader::default(), false, 0);
        let began = Instant::now();
        loop {
            // Before the first octet there is nothing to read.
            if !self.arrived.is_empty() {
                any = true;
                match reader.read(&mut self.arrived) {
                    // Interim answers (RFC 9110 section 15.2) are for this hop; a change of
                    // protocol is the last of it.
                    Ok(Some(head))
                        if head.status.is_informational()
                            && head.status != StatusCode::SWITCHING_PROTOCOLS =>
                    {
                        if head.status == StatusCode::CONTINUE {
                            flow.go_on();
                        }
                        interim += 1;
                        if interim > INTERIM_MAX {
                            return Err(Failure::Final(Fault::Garbled(
                                "it answers without an end".into(),
                            )));
                        }
                        continue;
                    }
                    Ok(Some(head)) => return Ok(head),
                    Ok(None) => {}
                    Err(malformed) => return Err(garbled(malformed)),
                }
            }
            let filled = std::future::poll_fn(|cx| self.poll_head(cx, shared, flow, began)).await;
            match filled.map_err(Failure::Final)? {
                Ok(1..) => {}
                Ok(0) if any => {
                    return Err(Failure::Final(Fault::HungUp(ErrorKind::UnexpectedEof.into())));
                }
                Ok(0) => return Err(Failure::Unanswered(ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    return Err(Failure::Final(Fault::Slow));
                }
                Err(error) if any || !is_hangup(&error) => {
                    return Err(Failure::Final(Fault::HungUp(error)));
                }
                Err(error) => return Err(Failure::Unanswered(error)),
            }
        }
    }

    /// Some more of the head; a fault where it is not waited for any longer.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        flow: &Flow,
        began: Instant,
    ) -> Poll<Result<io::Result<usize>, Fault>> {
        if let Poll::Ready(read) = self.poll_fill(cx) {
            return Poll::Ready(Ok(read));
        }
        match self.poll_sending(cx) {
            Poll::Ready(Broken::Application(_)) => return Poll::Ready(Err(Fault::Slow)),
            Poll::Ready(Broken::Browser(error)) => {
                return Poll::Ready(Err(Fault::HungUp(io::Error::other(error))));
            }
            Poll::Pending => {}
        }
        let patience = shared.limits().head;
        while self.timer.as_mut().poll(cx).is_ready() {
            let until = flow.moved_at().max(began) + patience;
            if until <= Instant::now() {
                return Poll::Ready(Err(if flow.is_streaming() {
                    Fault::BrowserSlow
                } else {
                    Fault::Slow
                }));
            }
            self.timer.as_mut().reset(until.into());
        }
        if self.is_over_or_wakes(cx) { Poll::Ready(Err(Fault::Over)) } else { Poll::Pending }
    }
}

fn garbled(malformed: Malformed) -> Failure {
    Failure::Final(Fault::Garbled(Box::new(malformed)))
}

fn is_hangup(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
