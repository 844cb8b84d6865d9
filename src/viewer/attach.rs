//! Attaches a browser to its desktop. Losing the authorization, or a shutdown of the gateway, drops
//! the stream at any point.

use super::browser::{BrowserSink, BrowserSource};
use super::dial::Dial;
use super::relay::StreamCounters;
use super::stream_audit::{RefusalCounter, StreamAudit};
use super::stream_context::StreamContext;
use super::stream_end::StreamEnd;
use super::timeouts::Timeouts;
use super::{rdp, vnc};
use crate::broker::core::stream_registry::{StreamAuthorization, StreamMeters};
use crate::domain::lease::Lease;
use crate::domain::upstream::ProtocolSettings;
use std::future::pending;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest wait, at the end, for an audit entry that is being written. One that takes longer is
/// written again by [`RefusalCounter::flush`], so that none is lost.
const AUDIT_WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// Everything a stream needs, except the browser.
pub struct Attachment<'a, B> {
    /// Target and credential.
    pub lease: &'a Lease,
    pub dial: &'a dyn Dial,
    pub authorization: watch::Receiver<StreamAuthorization>,
    /// Becomes true when the gateway shuts down.
    pub draining: watch::Receiver<bool>,
    pub meters: &'a StreamMeters,
    /// Counts refused transfers. The caller writes what is left in it after the end
    /// ([`RefusalCounter::flush`]).
    pub refusals: &'a RefusalCounter,
    pub audit: &'a B,
    pub timeouts: Timeouts,
}

/// Runs a stream until it ends. When this returns, or is dropped, the desktop's connection is
/// closed; the caller sends the close frame.
pub async fn attach<B: StreamAudit>(
    attachment: Attachment<'_, B>,
    sink: impl BrowserSink,
    source: &mut impl BrowserSource,
) -> StreamEnd {
    let Attachment { lease, dial, authorization, draining, meters, refusals, audit, timeouts } =
        attachment;
    let periodic_writes = refusals.write_periodically(audit);
    tokio::pin!(periodic_writes);
    let end = {
        let stream = async {
            let stream = StreamContext {
                lease,
                dial,
                counters: StreamCounters { meters, refusals },
                audit,
                timeouts: &timeouts,
            };
            let run = match &lease.upstream().protocol {
                ProtocolSettings::Rfb { exclusive } => {
                    vnc::run(&stream, *exclusive, sink, source).await
                }
                // Its requests are served one by one (`html5`); there is no stream to dial.
                ProtocolSettings::Http(_) => Err(StreamEnd::NoDesktop),
                // Boxed, so that the larger future of RDP does not enlarge every stream.
                ProtocolSettings::Rdp { keyboard_layout } => {
                    Box::pin(rdp::run(&stream, *keyboard_layout, sink, source)).await
                }
            };
            run.unwrap_or_else(|end| end)
        };
        tokio::select! {
            biased;
            end = authorization_lost(authorization) => end,
            end = drained(draining) => end,
            end = stream => end,
            never = &mut periodic_writes => match never {},
        }
    };
    // The stream is dropped; only an entry that is being written is waited for, and not for long.
    let last_write = async {
        tokio::select! {
            biased;
            never = &mut periodic_writes => match never {},
            () = refusals.wait_until_written() => {}
        }
    };
    let _ = timeout(AUDIT_WRITE_TIMEOUT, last_write).await;
    end
}

/// Resolves when the authorization is lost, and also when its sender is gone (fails closed).
pub(super) async fn authorization_lost(
    mut authorization: watch::Receiver<StreamAuthorization>,
) -> StreamEnd {
    match authorization.wait_for(|r| *r != StreamAuthorization::Valid).await {
        Ok(lost) => StreamEnd::revoked(*lost).unwrap_or(StreamEnd::AuthorizationUnknown),
        Err(_) => StreamEnd::AuthorizationUnknown,
    }
}

pub(super) async fn drained(mut draining: watch::Receiver<bool>) -> StreamEnd {
    if draining.wait_for(|d| *d).await.is_err() {
        // The sender is gone, so no shutdown will be announced; that alone does not end a stream.
        return pending().await;
    }
    StreamEnd::Draining
}
