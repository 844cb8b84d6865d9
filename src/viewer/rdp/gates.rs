//! The two gates of a stream of RDP: one filter behind both, since what one direction says decides
//! what the other may.

use super::nla::{self, Refusal};
use crate::domain::server::{Clipboard, Credential, Server, StreamPolicy};
use crate::protocol::rdp::channels::Purpose;
use crate::protocol::rdp::error_info::ErrorInfo;
use crate::protocol::rdp::filter::{Edits, Filter};
use crate::protocol::rdp::gcc::CoreEdits;
use crate::protocol::rdp::refusal::{Refusal as Held, Refused as What};
use crate::protocol::rdp::x224::HYBRID;
use crate::protocol::rdp::{self, RdpError, info};
use crate::viewer::gate::{Channel, Direction, Gate, GateError, Gates, Passed, Refused};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use zeroize::Zeroizing;

/// A refusal of the login that came where RDP was due: CredSSP's last word, after ours. Written by
/// a gate, read when the stream is over.
pub(super) type Late = Arc<OnceLock<Refusal>>;

/// One direction's gate.
pub(super) struct RdpGate {
    /// Both gates are fed by one task; the lock is never waited for.
    shared: Arc<Mutex<Filter>>,
    way: rdp::Direction,
    /// Used again for each chunk.
    out: Vec<Bytes>,
    /// Until the first chunk, where CredSSP came before.
    late: Option<Late>,
}

/// What was said in the stream that tells why it ended.
pub(super) struct Said(Arc<Mutex<Filter>>);

impl Said {
    /// Why the server said that it ends it, and what was wrong with the bytes.
    pub(super) fn of_the_end(&self) -> (Option<ErrorInfo>, Option<RdpError>) {
        let filter = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (filter.error_info(), filter.error())
    }
}

/// The gates of a stream to this server, which chose the protocol `selected`.
pub(super) fn gates(
    server: &Server,
    credential: Option<&Credential>,
    selected: u32,
    late: &Late,
) -> (Gates<RdpGate, RdpGate>, Said) {
    let credential = credential.map(|credential| info::Credential {
        domain: credential.domain.clone(),
        user: credential.username.clone(),
        password: Zeroizing::new(credential.password.expose().clone()),
    });
    let edits =
        Edits { core: CoreEdits { selected, keyboard_layout: server.keyboard }, credential };
    let shared = Arc::new(Mutex::new(Filter::new(policy(server.policy), edits)));
    let gate = |way, late| RdpGate { shared: Arc::clone(&shared), way, out: Vec::new(), late };
    let late = (selected == HYBRID).then(|| Arc::clone(late));
    (
        Gates { up: gate(rdp::Direction::Up, None), down: gate(rdp::Direction::Down, late) },
        Said(Arc::clone(&shared)),
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

impl RdpGate {
    fn filter(&self) -> MutexGuard<'_, Filter> {
        // A filter that panicked has not; and if it had, its lanes still hold what they held.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for RdpGate {
    fn feed(&mut self, chunk: Bytes, passed: &mut Passed) -> Result<(), GateError> {
        if let Some(late) = self.late.take()
            && let Some(refusal) = nla::late_refusal(&chunk)
        {
            let _ = late.set(refusal);
            return Err(GateError::Malformed(refusal.word()));
        }
        let mut filter = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let fed = filter.feed(self.way, &chunk, &mut self.out);
        passed.onward.extend(self.out.drain(..));
        let back = self.way.back();
        let spoken = if filter.owes(back) { filter.speak(back, &mut self.out) } else { Ok(()) };
        passed.back.extend(self.out.drain(..));
        if filter.has_refused() {
            passed.refused.extend(filter.refusals().iter().map(refused));
        }
        fed.and(spoken).map_err(error)
    }

    fn between(&self) -> bool {
        self.filter().is_between(self.way)
    }
}

fn refused(refusal: &Held) -> Refused {
    let channel = match &refusal.what {
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
    Refused { channel, direction, bytes: refusal.bytes, count: refusal.count }
}

/// What cannot be checked, or leads elsewhere, is forbidden; all else is a side that does not speak
/// as it should.
fn error(error: RdpError) -> GateError {
    match error {
        RdpError::Encrypted | RdpError::Compressed(_) | RdpError::Redirected => {
            GateError::Forbidden(error.word())
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
        | RdpError::Flood
        | RdpError::Spent => GateError::Malformed(error.word()),
    }
}
