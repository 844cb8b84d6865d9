//! State of a connection, and what both directions have in common. Decisions on each PDU are in
//! [`super::client_pdus`] and [`super::server_pdus`].

use super::channels::{Channels, Purpose, Role};
use super::chunk::{self, Chunk, ChunkReassembler, Disposition, MessageAddress};
use super::clipboard::{self, ClipboardState};
use super::direction_filter::PduDecision;
use super::dynamic::{self, DynamicChannels};
use super::error_info::ErrorInfo;
use super::gcc::CoreEdits;
use super::info::Credential;
use super::mcs::SendData;
use super::refusal::{RefusalCounts, RefusalKind};
use super::{Direction, Policy, RdpError};
use bytes::Bytes;
use std::collections::VecDeque;

/// Most replies that are pending for a direction that is inside a message.
const MAX_PENDING_REPLIES: usize = 64;
/// Initiator of the gateway's PDUs to the client: the server's user (T.125: 1001 plus 1).
const SERVER_INITIATOR: u16 = 1;

/// What the gateway writes into the client's early PDUs.
pub struct Edits {
    pub core: CoreEdits,
    /// `None`: the user signs in at the desktop's own screen. Wiped once it has been sent.
    pub credential: Option<Credential>,
}

/// Phase of the connection sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Its Connect-Initial is due.
    Start,
    /// The server's Connect-Response is due.
    Connecting,
    /// The client joins channels; its Client Info is due.
    Joining,
    /// The Client Info has passed. Licensing comes first, until the client confirms the server's
    /// capabilities.
    Active { licensing: bool },
}

/// State of one connection.
pub(super) struct ConnectionState {
    pub(super) policy: Policy,
    pub(super) edits: Edits,
    pub(super) phase: Phase,
    pub(super) channels: Channels,
    /// The client's initiator, from Attach User Confirm.
    pub(super) initiator: u16,
    clipboard: ClipboardState,
    dynamic: DynamicChannels,
    /// The messages of the two inspected channels, by direction.
    messages: [Reassemblers; 2],
    pending_replies: [VecDeque<(Purpose, Vec<u8>)>; 2],
    pub(super) refusals: RefusalCounts,
    /// The replies for the opposite direction can be sent as soon as the current input is consumed.
    /// As many may then be pending as were requested in one go; a limit would depend on how the
    /// bytes were split.
    pub(super) opposite_can_flush: bool,
    /// The server's last announced reason for the end of the connection.
    pub(super) error_info: Option<ErrorInfo>,
}

/// The inspected channels, in one direction.
#[derive(Default)]
struct Reassemblers {
    clipboard: ChunkReassembler,
    dynamic: ChunkReassembler,
}

fn direction_index(direction: Direction) -> usize {
    match direction {
        Direction::Up => 0,
        Direction::Down => 1,
    }
}

impl ConnectionState {
    pub(super) fn new(policy: Policy, edits: Edits) -> Self {
        Self {
            policy,
            edits,
            phase: Phase::Start,
            channels: Channels::default(),
            initiator: 0,
            clipboard: ClipboardState::default(),
            dynamic: DynamicChannels::default(),
            messages: Default::default(),
            pending_replies: Default::default(),
            refusals: RefusalCounts::default(),
            opposite_can_flush: false,
            error_info: None,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active { .. })
    }

    /// Whether nothing of the client needs inspection.
    pub(super) fn is_open(&self) -> bool {
        self.is_active() && self.policy.is_open() && self.channels.forbidden().next().is_none()
    }

    pub(super) fn refuse(
        &mut self,
        kind: RefusalKind,
        direction: Direction,
        bytes: usize,
    ) -> PduDecision {
        self.refusals.count(kind, direction, bytes);
        PduDecision::Drop
    }

    /// Decides on a chunk of an allowed virtual channel.
    fn on_channel(
        &mut self,
        header: &[u8],
        data: SendData,
        purpose: Purpose,
        direction: Direction,
    ) -> Result<PduDecision, RdpError> {
        let unrestricted = match purpose {
            Purpose::Sound | Purpose::Devices => true,
            // A clipboard without restrictions, and a connection without restrictions.
            Purpose::Clipboard => {
                self.policy.clipboard == super::Clipboard::Both && self.policy.files
            }
            Purpose::Dynamic => self.policy.is_open(),
        };
        if unrestricted {
            return Ok(PduDecision::Pass);
        }
        let chunk = Chunk::read(header, data, purpose.name())?;
        let (policy, refusals) = (self.policy, &mut self.refusals);
        let head = header.get(chunk.offset..).unwrap_or_default();
        let reassemblers = &mut self.messages[direction_index(direction)];
        let disposition = match purpose {
            Purpose::Clipboard => {
                let state = &self.clipboard;
                reassemblers
                    .clipboard
                    .next(chunk, || state.decide(head, chunk.total, direction, policy, refusals))?
            }
            Purpose::Dynamic | Purpose::Sound | Purpose::Devices => {
                let state = &mut self.dynamic;
                reassemblers
                    .dynamic
                    .next(chunk, || state.decide(head, chunk.total, direction, refusals))?
            }
        };
        Ok(match disposition {
            Disposition::Pass => PduDecision::Pass,
            Disposition::Drop => PduDecision::Drop,
            Disposition::Reassemble => PduDecision::Buffer,
        })
    }

    /// Appends a chunk of a message that is reassembled; handles the message once it is complete.
    pub(super) fn reassemble(
        &mut self,
        pdu: Bytes,
        data: SendData,
        purpose: Purpose,
        direction: Direction,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let chunk = Chunk::read(&pdu, data, purpose.name())?;
        let part = pdu.get(chunk.offset..).unwrap_or_default();
        let reassemblers = &mut self.messages[direction_index(direction)];
        let reassembler = if purpose == Purpose::Clipboard {
            &mut reassemblers.clipboard
        } else {
            &mut reassemblers.dynamic
        };
        let Some(message) = reassembler.append(part) else { return Ok(()) };
        let (pass, reply) = if purpose == Purpose::Clipboard {
            match self.clipboard.handle(&message, direction, self.policy, &mut self.refusals)? {
                clipboard::MessageOutcome::Pass => (Some(message), None),
                clipboard::MessageOutcome::Replace(replacement) => {
                    return self.write_message(&replacement, data, purpose, direction, out);
                }
                clipboard::MessageOutcome::Reply(reply) => (None, Some(reply)),
            }
        } else {
            match self.dynamic.create(&message, self.policy, &mut self.refusals)? {
                dynamic::CreateOutcome::Pass => (Some(message), None),
                dynamic::CreateOutcome::Reply(reply) => (None, Some(reply)),
            }
        };
        if let Some(reply) = reply {
            let pending = &mut self.pending_replies[direction_index(direction.opposite())];
            if pending.len() >= MAX_PENDING_REPLIES && !self.opposite_can_flush {
                return Err(RdpError::TooManyPendingReplies);
            }
            pending.push_back((purpose, reply));
        }
        match pass {
            // It came in one chunk: forwarded as it is.
            Some(message) if message.len() == chunk.length => out.push(pdu),
            Some(message) => self.write_message(&message, data, purpose, direction, out)?,
            None => {}
        }
        Ok(())
    }

    fn write_message(
        &self,
        message: &[u8],
        data: SendData,
        purpose: Purpose,
        direction: Direction,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let show_protocol =
            self.channels.with_purpose(purpose).is_some_and(|channel| channel.show_protocol);
        let to = MessageAddress {
            direction,
            initiator: data.initiator,
            channel: data.channel,
            show_protocol,
        };
        let mut bytes = Vec::new();
        chunk::write(&mut bytes, to, message)?;
        out.push(bytes.into());
        Ok(())
    }

    /// Whether a reply is pending, and no message it would interrupt has been forwarded in part.
    pub(super) fn has_pending(&self, direction: Direction) -> bool {
        !self.pending_replies[direction_index(direction)].is_empty() && !self.is_passing(direction)
    }

    /// Whether nothing is pending, and a reply could be sent at once.
    pub(super) fn has_nothing_pending(&self, direction: Direction) -> bool {
        self.pending_replies[direction_index(direction)].is_empty() && !self.is_passing(direction)
    }

    /// Whether a message of a channel has been forwarded in part.
    pub(super) fn is_passing(&self, direction: Direction) -> bool {
        let reassemblers = &self.messages[direction_index(direction)];
        reassemblers.clipboard.is_passing() || reassemblers.dynamic.is_passing()
    }

    pub(super) fn flush_pending(
        &mut self,
        direction: Direction,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        while self.has_pending(direction)
            && let Some((purpose, message)) =
                self.pending_replies[direction_index(direction)].pop_front()
        {
            let Some(channel) = self.channels.with_purpose(purpose).and_then(|c| c.id) else {
                continue;
            };
            let initiator = match direction {
                Direction::Up => self.initiator,
                Direction::Down => SERVER_INITIATOR,
            };
            let data = SendData { initiator, channel, offset: 0, length: 0 };
            self.write_message(&message, data, purpose, direction, out)?;
        }
        Ok(())
    }

    /// Decides on data of channels other than I/O, the same in both directions.
    pub(super) fn decide_data(
        &mut self,
        header: &[u8],
        data: SendData,
        role: Role,
        direction: Direction,
    ) -> Result<PduDecision, RdpError> {
        match role {
            Role::Io | Role::Message => Ok(PduDecision::Pass),
            Role::Virtual(purpose) => self.on_channel(header, data, purpose, direction),
            Role::Forbidden(index) => {
                let name = self.channels.list.get(index).map(|channel| channel.name.clone());
                Ok(self.refuse(
                    name.map_or(RefusalKind::Other, RefusalKind::StaticChannel),
                    direction,
                    data.length,
                ))
            }
            Role::Unknown => Ok(self.refuse(RefusalKind::Other, direction, data.length)),
        }
    }
}

/// Checks the flags of a fast-path PDU: RDP's own encryption or signature is refused (2.2.8.1.2).
pub(super) fn check_fast_path(header: &[u8]) -> Result<(), RdpError> {
    if header.first().is_some_and(|first| first & 0xc0 != 0) {
        Err(RdpError::Encrypted)
    } else {
        Ok(())
    }
}
