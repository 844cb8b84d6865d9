//! The two stream filters of an RDP stream. They share one protocol filter, since PDUs of one
//! direction decide what the other may carry.

use super::nla::{self, LogonFailure};
use crate::domain::sync::lock;
use crate::domain::upstream::{Clipboard, Credential, StreamPolicy};
use crate::protocol::rdp::channels::Purpose;
use crate::protocol::rdp::error_info::ErrorInfo;
use crate::protocol::rdp::filter::{Edits, Filter};
use crate::protocol::rdp::gcc::CoreEdits;
use crate::protocol::rdp::refusal::{Refusal, RefusalKind};
use crate::protocol::rdp::x224::HYBRID;
use crate::protocol::rdp::{self, RdpError, info};
use crate::viewer::stream_filter::{
    Channel, Direction, Filtered, RefusedTransfer, StreamFilter, StreamFilterError, StreamFilters,
};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use zeroize::Zeroizing;

/// A logon failure that arrived where RDP was due: CredSSP's last message, after the gateway's. Set
/// by a filter, read after the stream.
pub(super) type LateLogonFailure = Arc<OnceLock<LogonFailure>>;

/// Filter of one direction.
pub(super) struct RdpStreamFilter {
    /// Both filters are fed by one task; the lock is never contended.
    shared: Arc<Mutex<Filter>>,
    direction: rdp::Direction,
    /// Reused for each chunk.
    out: Vec<Bytes>,
    /// Set until the first chunk, after CredSSP.
    late_failure: Option<LateLogonFailure>,
}

/// What the protocol filter knows about the end of the stream.
pub(super) struct EndInfo(Arc<Mutex<Filter>>);

impl EndInfo {
    /// The server's announced reason, and what was wrong with the bytes.
    pub(super) fn end_info(&self) -> (Option<ErrorInfo>, Option<RdpError>) {
        let filter = lock(&self.0);
        (filter.error_info(), filter.error())
    }
}

/// The filters of a stream to a server that selected the protocol `selected`.
pub(super) fn stream_filters(
    allowed: StreamPolicy,
    keyboard_layout: Option<u32>,
    credential: Option<&Credential>,
    selected: u32,
    late_failure: &LateLogonFailure,
) -> (StreamFilters<RdpStreamFilter, RdpStreamFilter>, EndInfo) {
    let credential = credential.map(|credential| info::Credential {
        domain: credential.domain.clone(),
        user: credential.username.clone(),
        password: Zeroizing::new(credential.password.expose().clone()),
    });
    let edits = Edits { core: CoreEdits { selected, keyboard_layout }, credential };
    let shared = Arc::new(Mutex::new(Filter::new(policy(allowed), edits)));
    let filter_for = |direction, late_failure| RdpStreamFilter {
        shared: Arc::clone(&shared),
        direction,
        out: Vec::new(),
        late_failure,
    };
    let late_failure = (selected == HYBRID).then(|| Arc::clone(late_failure));
    (
        StreamFilters {
            up: filter_for(rdp::Direction::Up, None),
            down: filter_for(rdp::Direction::Down, late_failure),
        },
        EndInfo(Arc::clone(&shared)),
    )
}

fn policy(policy: StreamPolicy) -> rdp::Policy {
    let clipboard = match policy.clipboard {
        // Nothing is written to the clipboard of a view-only desktop.
        Clipboard::In if policy.read_only => rdp::Clipboard::None,
        Clipboard::Both if policy.read_only => rdp::Clipboard::Out,
        Clipboard::None => rdp::Clipboard::None,
        Clipboard::In => rdp::Clipboard::In,
        Clipboard::Out => rdp::Clipboard::Out,
        Clipboard::Both => rdp::Clipboard::Both,
    };
    rdp::Policy { clipboard, files: policy.files && !policy.read_only, read_only: policy.read_only }
}

impl RdpStreamFilter {
    fn filter(&self) -> MutexGuard<'_, Filter> {
        // The filter does not panic; if it did, its state would still be consistent.
        lock(&self.shared)
    }
}

impl StreamFilter for RdpStreamFilter {
    fn feed(&mut self, chunk: Bytes, output: &mut Filtered) -> Result<(), StreamFilterError> {
        if let Some(late_failure) = self.late_failure.take()
            && let Some(refusal) = nla::late_failure(&chunk)
        {
            let _ = late_failure.set(refusal);
            return Err(StreamFilterError::Malformed(refusal.reason_code()));
        }
        let mut filter = lock(&self.shared);
        let fed = filter.feed(self.direction, &chunk, &mut self.out);
        output.forward.extend(self.out.drain(..));
        let opposite = self.direction.opposite();
        let flushed = if filter.has_pending(opposite) {
            filter.flush_pending(opposite, &mut self.out)
        } else {
            Ok(())
        };
        output.replies.extend(self.out.drain(..));
        if filter.has_refusals() {
            output.refused.extend(filter.refusals().iter().filter_map(refused_transfer));
        }
        fed.and(flushed).map_err(filter_error)
    }

    fn at_message_boundary(&self) -> bool {
        self.filter().is_at_boundary(self.direction)
    }
}

/// `None`: a channel that the server asked for by itself, as it does at every start. Nobody transferred
/// anything.
fn refused_transfer(refusal: &Refusal) -> Option<RefusedTransfer> {
    let channel = match &refusal.kind {
        RefusalKind::Clipboard => Channel::Clipboard,
        RefusalKind::ClipboardFiles => Channel::Files,
        RefusalKind::StaticChannel(name)
            if name.as_str().eq_ignore_ascii_case(Purpose::Clipboard.name()) =>
        {
            Channel::Clipboard
        }
        RefusalKind::StaticChannel(name)
            if name.as_str().eq_ignore_ascii_case(Purpose::Devices.name()) =>
        {
            Channel::Files
        }
        RefusalKind::Input => Channel::Input,
        RefusalKind::DynamicChannel(_) => return None,
        RefusalKind::StaticChannel(_) | RefusalKind::DynamicData | RefusalKind::Other => {
            Channel::Other
        }
    };
    let direction = match refusal.direction {
        rdp::Direction::Up => Direction::Up,
        rdp::Direction::Down => Direction::Down,
    };
    Some(RefusedTransfer { channel, direction, bytes: refusal.bytes, count: refusal.count })
}

/// What cannot be checked, or redirects to another server, is forbidden; everything else is a
/// protocol error.
fn filter_error(error: RdpError) -> StreamFilterError {
    match error {
        RdpError::Encrypted | RdpError::Compressed(_) | RdpError::Redirected => {
            StreamFilterError::Forbidden(error.reason_code())
        }
        RdpError::NotRdp { .. }
        | RdpError::TooLong { .. }
        | RdpError::Malformed(_)
        | RdpError::Unexpected(_)
        | RdpError::Refused(_)
        | RdpError::NoTls
        | RdpError::Protocol(_)
        | RdpError::DesktopSize { .. }
        | RdpError::MonitorLayout
        | RdpError::CredentialTooLong(_)
        | RdpError::TooManyPendingReplies
        | RdpError::AlreadyFailed => StreamFilterError::Malformed(error.reason_code()),
    }
}
