//! Limits of HTTP/2, on the gateway's own names and on applications'.

use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use std::time::Duration;

/// Concurrent requests on a connection.
const STREAMS_MAX: u32 = 128;
/// Largest list of header fields that is read, as HTTP/2 counts them after decompression (RFC 9113
/// section 6.5.2): all cookies that browsers keep for a site, 180 of 4 KiB. More than
/// [`crate::http::head_limit::HEAD_MAX`] is only read to be refused with the reason; the library
/// answers a larger list with an empty 431.
pub(super) const HEADER_LIST_MAX: u32 = 768 * 1024;
/// Between PING frames; also how long the peer has to answer one.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Bytes that a connection may make the gateway keep.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Http2Buffers {
    /// Flow-control windows: of request bodies that are not read yet, per stream and in all.
    stream_window: u32,
    connection_window: u32,
    /// Of each response.
    send: usize,
}

/// The gateway's own names: bodies of at most 64 KiB. In all at most 5 MiB.
pub(in crate::http) const GATEWAY_BUFFERS: Http2Buffers =
    Http2Buffers { stream_window: 64 * 1024, connection_window: 1024 * 1024, send: 32 * 1024 };
/// Applications: uploads, downloads. In all at most 20 MiB.
pub(in crate::http) const APP_BUFFERS: Http2Buffers = Http2Buffers {
    stream_window: 1024 * 1024,
    connection_window: 4 * 1024 * 1024,
    send: 128 * 1024,
};

/// A server with these limits. `executor` runs the tasks of its streams.
pub(in crate::http) fn builder<E: Clone>(executor: E, buffers: Http2Buffers) -> http2::Builder<E> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_MAX)
        .initial_stream_window_size(buffers.stream_window)
        .initial_connection_window_size(buffers.connection_window)
        .max_send_buf_size(buffers.send)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}
