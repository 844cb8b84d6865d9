//! The two gates of a stream of RDP: one filter behind both, since what one direction says decides
//! what the other may.

use super::nla::{self, LogonFailure};
use crate::domain::sync::lock;
use crate::domain::upstream::{Clipboard, Credential, StreamPolicy, Upstream};
use crate::protocol::rdp::channels::Purpose;
use crate::protocol::rdp::error_info::ErrorInfo;
use crate::protocol::rdp::filter::{Edits, Filter};
use crate::protocol::rdp::gcc::CoreEdits;
use crate::protocol::rdp::refusal::{Refusal as Held, RefusalKind as What};
use crate::protocol::rdp::x224::HYBRID;
use crate::protocol::rdp::{self, RdpError, info};
use crate::viewer::stream_filter::{
    Channel, Direction, Filtered, RefusedTransfer, StreamFilter, StreamFilterError, StreamFilters,
};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use zeroize::Zeroizing;

/// A refusal of the login that came where RDP was due: CredSSP's last word, after ours. Written by
/// a gate, read when the stream is over.
pub(super) type LateLogonFailure = Arc<OnceLock<LogonFailure>>;

/// One direction's gate.
pub(super) struct RdpStreamFilter {
    /// Both gates are fed by one task; the lock is never waited for.
    shared: Arc<Mutex<Filter>>,
    direction: rdp::Direction,
    /// Used again for each chunk.
    out: Vec<Bytes>,
    /// Until the first chunk, where CredSSP came before.
    late_failure: Option<LateLogonFailure>,
}

/// What was said in the stream that tells why it ended.
pub(super) struct EndInfo(Arc<Mutex<Filter>>);

impl EndInfo {
    /// Why the server said that it ends it, and what was wrong with the bytes.
    pub(super) fn end_info(&self) -> (Option<ErrorInfo>, Option<RdpError>) {
        let filter = lock(&self.0);
        (filter.error_info(), filter.error())
    }
}

/// The gates of a stream to this server, which chose the protocol `selected`.
pub(super) fn stream_filters(
    server: &Upstream,
    credential: Option<&Credential>,
    selected: u32,
    late: &LateLogonFailure,
) -> (StreamFilters<RdpStreamFilter, RdpStreamFilter>, EndInfo) {
    let credential = credential.map(|credential| info::Credential {
        domain: credential.domain.clone(),
        user: credential.username.clone(),
        password: Zeroizing::new(credential.password.expose().clone()),
    });
    let edits =
        Edits { core: CoreEdits { selected, keyboard_layout: server.keyboard_layout }, credential };
    let shared = Arc::new(Mutex::new(Filter::new(policy(server.policy), edits)));
    let gate = |way, late| RdpStreamFilter {
        shared: Arc::clone(&shared),
        direction: way,
        out: Vec::new(),
        late_failure: late,
    };
    let late = (selected == HYBRID).then(|| Arc::clone(late));
    (
        StreamFilters {
            up: gate(rdp::Direction::Up, None),
            down: gate(rdp::Direction::Down, late),
        },
        EndInfo(Arc::clone(&shared)),
    )
}

fn policy(policy: StreamPolicy) -> rdp::Policy {
    let clipboard = match policy.clipboard {
        // Into a desktop that may only be looked at nothing is put.
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
        // A filter that panicked is still consistent: its direction filters keep what they held.
        lock(&self.shared)
    }
}

impl StreamFilter for RdpStreamFilter {
    fn feed(&mut self, chunk: Bytes, passed: &mut Filtered) -> Result<(), StreamFilterError> {
        if let Some(late) = self.late_failure.take()
            && let Some(refusal) = nla::late_failure(&chunk)
        {
            let _ = late.set(refusal);
            return Err(StreamFilterError::Malformed(refusal.word()));
        }
        let mut filter = lock(&self.shared);
        let fed = filter.feed(self.direction, &chunk, &mut self.out);
        passed.forward.extend(self.out.drain(..));
        let back = self.direction.opposite();
        let spoken = if filter.has_pending(back) {
            filter.flush_pending(back, &mut self.out)
        } else {
            Ok(())
        };
        passed.replies.extend(self.out.drain(..));
        if filter.has_refusals() {
            passed.refused.extend(filter.refusals().iter().map(refused_transfer));
        }
        fed.and(spoken).map_err(filter_error)
    }

    fn at_message_boundary(&self) -> bool {
        self.filter().is_at_boundary(self.direction)
    }
}

fn refused_transfer(refusal: &Held) -> RefusedTransfer {
    let channel = match &refusal.kind {
        What::Clipboard => Channel::Clipboard,
        What::ClipboardFiles => Channel::Files,
        What::StaticChannel(name)
            if name.as_str().eq_ignore_ascii_case(Purpose::Clipboard.name()) =>
        {
            Channel::Clipboard
        }
        What::StaticChannel(name)
            if name.as_str().eq_ignore_ascii_case(Purpose::Devices.name()) =>
        {
            Channel::Files
        }
        What::Input => Channel::Input,
        What::StaticChannel(_) | What::DynamicChannel(_) | What::DynamicData | What::Other => {
            Channel::Other
        }
    };
    let direction = match refusal.direction {
        rdp::Direction::Up => Direction::Up,
        rdp::Direction::Down => Direction::Down,
    };
    RefusedTransfer { channel, direction, bytes: refusal.bytes, count: refusal.count }
}

/// What cannot be checked, or leads elsewhere, is forbidden; all else is a side that does not speak
/// as it should.
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
