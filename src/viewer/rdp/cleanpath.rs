//! The gateway's side of RDCleanPath: the browser, which has no TCP, sends the first PDU of RDP and
//! asks for a connection; it gets the server's answer and certificate, and the stream goes on as if
//! it had connected and made TLS itself.
//!
//! What it may *not* do here: name a target. The lease knows it; a request for another one is
//! refused. How a request is read is [`crate::protocol::rdp::cleanpath`]'s.

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

/// Hears the browser's request out. What it sent beyond it stays in `pending`.
///
/// # Errors
/// The [`End`] it means for the stream.
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

/// The answer that the connection is there: the server's X.224 Connection Confirm and its
/// certificates, the server's own first.
///
/// `None`: a certificate too long for the encoding, which cannot have come through TLS.
pub(super) fn response(
    session: SessionId,
    confirm: Vec<u8>,
    certificates: Vec<Vec<u8>>,
) -> Option<Bytes> {
    RDCleanPathPdu::new_response(destination(session), confirm, certificates)
        .ok()
        .and_then(|pdu| encoded(&pdu))
}

/// The answer that there will be none, as the HTTP status that says it best: what an RDCleanPath
/// client shows when it cannot see why its WebSocket was closed.
pub(super) fn refusal(status: u16) -> Option<Bytes> {
    encoded(&RDCleanPathPdu::new_http_error(status))
}

fn encoded(pdu: &RDCleanPathPdu) -> Option<Bytes> {
    pdu.to_der().ok().map(Bytes::from)
}
