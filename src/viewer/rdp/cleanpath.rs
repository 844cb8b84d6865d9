//! The gateway's side of RDCleanPath: the browser, which has no TCP, sends the X.224 Connection
//! Request and asks for a connection; the gateway returns the server's Connection Confirm and
//! certificates, and the stream continues as if the browser had connected and performed TLS itself.
//!
//! The request cannot choose a target: the lease names it, and a request for another one is
//! refused. Requests are parsed by [`crate::protocol::rdp::cleanpath`].

use crate::domain::SessionId;
use crate::protocol::rdp::cleanpath::read;
pub use crate::protocol::rdp::cleanpath::{
    CleanPathError, MAX_REQUEST, Request, printable_destination,
};
use crate::viewer::browser::{BrowserSink, BrowserSource, read_message};
use crate::viewer::stream_end::StreamEnd;
use bytes::{Bytes, BytesMut};
use ironrdp_rdcleanpath::RDCleanPathPdu;

/// The only destination that a session's page may name.
#[must_use]
pub fn destination(session: SessionId) -> String {
    format!("session:{session}")
}

/// Reads the browser's request. Bytes after it stay in `pending`.
///
/// # Errors
/// Why the stream ends.
pub(super) async fn read_request(
    sink: &mut impl BrowserSink,
    source: &mut impl BrowserSource,
    pending: &mut BytesMut,
) -> Result<Request, StreamEnd> {
    loop {
        if let Some((request, length)) = read(pending).map_err(StreamEnd::BrowserCleanPath)? {
            let _ = pending.split_to(length);
            return Ok(request);
        }
        read_message(sink, source, pending, MAX_REQUEST).await?;
    }
}

/// The response for an open connection: the server's X.224 Connection Confirm and its certificates,
/// the server's own first.
///
/// `None` when a certificate is too long for the encoding, which cannot have come through TLS.
pub(super) fn response(
    session: SessionId,
    confirm: Vec<u8>,
    certificates: Vec<Vec<u8>>,
) -> Option<Bytes> {
    RDCleanPathPdu::new_response(destination(session), confirm, certificates)
        .ok()
        .and_then(|pdu| encoded(&pdu))
}

/// The response for a failed connection, as the closest HTTP status: shown by RDCleanPath clients
/// that cannot see the WebSocket's close reason.
pub(super) fn refusal(status: u16) -> Option<Bytes> {
    encoded(&RDCleanPathPdu::new_http_error(status))
}

fn encoded(pdu: &RDCleanPathPdu) -> Option<Bytes> {
    pdu.to_der().ok().map(Bytes::from)
}
