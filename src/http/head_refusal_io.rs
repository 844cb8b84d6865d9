//! The byte stream of an HTTP/1.1 connection, which gives the refusal of a too large request head a
//! body.
//!
//! Both HTTP servers answer a head beyond their buffer themselves, with an empty 431, and close the
//! connection while the browser still sends; it then shows a connection error. Neither has a hook
//! for that, so the response is replaced here: the rest of the head is read and discarded first.

use super::client_presence::{ClientEnd, ClientWatch};
use super::head_limit::HeadTooLarge;
use super::request_head_scanner::RequestHeadScanner;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How a refusal by a server's parser starts.
const REFUSAL: &[u8] = b"HTTP/1.1 431 ";
/// A refusal of our own has a body; the parser's has none.
const WITHOUT_BODY: &[u8] = b"\r\ncontent-length: 0\r\n";
/// Most bytes of a head that are discarded: browsers keep at most 180 cookies of 4 KiB for a site.
const DISCARDED_MAX: usize = 1024 * 1024;
/// How long discarding may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// A byte stream whose empty 431 responses are replaced.
pub struct HeadRefusalIo<S> {
    stream: S,
    /// `None`: HTTP/2.
    scanner: Option<RequestHeadScanner>,
    refusal: Option<Refusal>,
    client: ClientEnd,
}

/// A refusal that is being sent.
enum Refusal {
    /// The rest of the head is being discarded.
    Discard {
        timer: Pin<Box<Sleep>>,
        discarded: usize,
    },
    Send {
        response: Vec<u8>,
        sent: usize,
    },
    /// Whatever the server writes after it is dropped.
    Sent,
}

impl<S> HeadRefusalIo<S> {
    pub fn new(stream: S, is_http2: bool) -> Self {
        let scanner = (!is_http2).then(RequestHeadScanner::default);
        Self { stream, scanner, refusal: None, client: ClientEnd::default() }
    }

    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Tells when the client has closed its side of the connection.
    pub(in crate::http) fn watch_client(&self) -> ClientWatch {
        self.client.watch()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> HeadRefusalIo<S> {
    /// Whether a write is the refusal of a too large head, or comes after one.
    fn is_refusal(&mut self, data: &[u8]) -> bool {
        let Some(scanner) = &mut self.scanner else { return false };
        if self.refusal.is_some() {
            return true;
        }
        let is_empty_431 = data.starts_with(REFUSAL)
            && data.windows(WITHOUT_BODY.len()).any(|w| w.eq_ignore_ascii_case(WITHOUT_BODY));
        if is_empty_431 {
            let timer = Box::pin(sleep(DISCARD_TIMEOUT));
            self.refusal = Some(Refusal::Discard { timer, discarded: 0 });
        } else {
            scanner.restart();
        }
        is_empty_431
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, scanner, refusal, client: _ } = self;
        let (Some(scanner), Some(refusal)) = (scanner, refusal) else {
            return Poll::Ready(Ok(()));
        };
        loop {
            match refusal {
                Refusal::Discard { timer, discarded } => {
                    let mut buffer = [0; 8192];
                    let mut read = ReadBuf::new(&mut buffer);
                    let is_over = scanner.is_complete()
                        || *discarded > DISCARDED_MAX
                        || timer.as_mut().poll(cx).is_ready();
                    if !is_over {
                        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
                    }
                    scanner.feed(read.filled());
                    *discarded += read.filled().len();
                    if is_over || read.filled().is_empty() {
                        *refusal = Refusal::Send { response: response(scanner), sent: 0 };
                    }
                }
                Refusal::Send { response, sent } => {
                    let rest = response.get(*sent..).unwrap_or_default();
                    if rest.is_empty() {
                        *refusal = Refusal::Sent;
                        continue;
                    }
                    *sent += ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
                }
                Refusal::Sent => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// The response, for what the head accepts.
fn response(scanner: &RequestHeadScanner) -> Vec<u8> {
    let reason = HeadTooLarge::of(scanner.cookie_bytes());
    let (kind, body) = if scanner.accepts_html() {
        ("text/html; charset=utf-8", reason.page())
    } else {
        ("application/json", serde_json::json!({ "detail": reason.detail() }).to_string())
    };
    let clear = reason
        .clear_site_data()
        .map_or_else(String::new, |value| format!("clear-site-data: {value}\r\n"));
    format!(
        "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{clear}\
        cache-control: no-store\r\nx-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n\
        strict-transport-security: max-age=31536000\r\n\
        content-security-policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\n\
        connection: close\r\n\r\n{body}",
        body.len(),
    )
    .into_bytes()
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadRefusalIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let has_room = buf.remaining() > 0;
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if read.is_err() || (has_room && buf.filled().len() == before) {
            self.client.set_left();
        }
        read?;
        if let Some(scanner) = &mut self.scanner {
            scanner.feed(buf.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeadRefusalIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_refusal(buf) {
            ready!(self.poll_refusal(cx))?;
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
        if self.is_refusal(first) {
            ready!(self.poll_refusal(cx))?;
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
