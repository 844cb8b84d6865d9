//! The rules: what is known of the connection, and what both directions have in common. What
//! becomes of each PDU is in [`super::up`] and [`super::down`].

use super::channels::{Channels, Purpose, Role};
use super::chunk::{self, Chunk, ChunkReassembler, Disposition, MessageAddress};
use super::clipboard::{self, ClipboardState};
use super::direction_filter::PduDecision;
use super::dynamic::{self, DynamicChannels};
use super::error_info::ErrorInfo;
use super::filter::Edits;
use super::mcs::SendData;
use super::refusal::{RefusalCounts, RefusalKind};
use super::{Direction, Policy, RdpError};
use bytes::Bytes;
use std::collections::VecDeque;

/// Most answers that wait for a direction that is in the midst of something.
const MAX_PENDING_REPLIES: usize = 64;
/// Initiator the gateway gives itself toward the client: the server's user (T.125: 1001 plus 1).
const SERVER_INITIATOR: u16 = 1;

/// How far the client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Its Connect-Initial is due.
    Start,
    /// The server's Connect-Response is due.
    Connecting,
    /// It joins channels; its Client Info is due.
    Joining,
    /// Its Client Info has passed. Licences come first, until it confirms the server's
    /// capabilities.
    Active { licensing: bool },
}

/// Everything that is known of the connection.
pub(super) struct ConnectionState {
    pub(super) policy: Policy,
    pub(super) edits: Edits,
    pub(super) phase: Phase,
    pub(super) channels: Channels,
    /// The client's own initiator, from the server's attach-user confirmation.
    pub(super) initiator: u16,
    clipboard: ClipboardState,
    dynamic: DynamicChannels,
    /// The messages of the two channels that are looked into, by direction.
    messages: [Reassemblers; 2],
    pending_replies: [VecDeque<(Purpose, Vec<u8>)>; 2],
    pub(super) refusals: RefusalCounts,
    /// What is owed the other way can be said as soon as what is being fed is through: then as much
    /// may be owed as was asked for in one go, and a limit would depend on how the bytes were cut.
    pub(super) opposite_can_flush: bool,
    /// What the server said last of why it ends the connection.
    pub(super) error_info: Option<ErrorInfo>,
}

/// The channels that are looked into, in one direction.
#[derive(Default)]
struct Reassemblers {
    clipboard: ChunkReassembler,
    dynamic: ChunkReassembler,
}

fn direction_index(way: Direction) -> usize {
    match way {
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

    /// Whether nothing of what the client sends needs to be looked at.
    pub(super) fn is_open(&self) -> bool {
        self.is_active() && self.policy.is_open() && self.channels.forbidden().next().is_none()
    }

    pub(super) fn refuse(
        &mut self,
        what: RefusalKind,
        way: Direction,
        bytes: usize,
    ) -> PduDecision {
        self.refusals.count(what, way, bytes);
        PduDecision::Drop
    }

    /// A chunk on a virtual channel that is allowed.
    fn on_channel(
        &mut self,
        seen: &[u8],
        data: SendData,
        purpose: Purpose,
        way: Direction,
    ) -> Result<PduDecision, RdpError> {
        let open = match purpose {
            Purpose::Sound | Purpose::Devices => true,
            // A clipboard that may carry anything, and a connection that may do anything.
            Purpose::Clipboard => {
                self.policy.clipboard == super::Clipboard::Both && self.policy.files
            }
            Purpose::Dynamic => self.policy.is_open(),
        };
        if open {
            return Ok(PduDecision::Pass);
        }
        let chunk = Chunk::read(seen, data, purpose.name())?;
        let (policy, refusals) = (self.policy, &mut self.refusals);
        let head = seen.get(chunk.offset..).unwrap_or_default();
        let streams = &mut self.messages[direction_index(way)];
        let fate = match purpose {
            Purpose::Clipboard => {
                let state = &self.clipboard;
                streams
                    .clipboard
                    .next(chunk, || state.decide(head, chunk.total, way, policy, refusals))?
            }
            Purpose::Dynamic | Purpose::Sound | Purpose::Devices => {
                let state = &mut self.dynamic;
                streams.dynamic.next(chunk, || state.decide(head, chunk.total, way, refusals))?
            }
        };
        Ok(match fate {
            Disposition::Pass => PduDecision::Pass,
            Disposition::Drop => PduDecision::Drop,
            Disposition::Reassemble => PduDecision::Buffer,
        })
    }

    /// A chunk of a message that is gathered: once it is whole, puts out what becomes of it.
    pub(super) fn reassemble(
        &mut self,
        pdu: Bytes,
        data: SendData,
        purpose: Purpose,
        way: Direction,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let chunk = Chunk::read(&pdu, data, purpose.name())?;
        let part = pdu.get(chunk.offset..).unwrap_or_default();
        let streams = &mut self.messages[direction_index(way)];
        let stream = if purpose == Purpose::Clipboard {
            &mut streams.clipboard
        } else {
            &mut streams.dynamic
        };
        let Some(message) = stream.append(part) else { return Ok(()) };
        let (pass, answer) = if purpose == Purpose::Clipboard {
            match self.clipboard.handle(&message, way, self.policy, &mut self.refusals)? {
                clipboard::MessageOutcome::Pass => (Some(message), None),
                clipboard::MessageOutcome::Replace(other) => {
                    return self.write_message(&other, data, purpose, way, out);
                }
                clipboard::MessageOutcome::Reply(answer) => (None, Some(answer)),
            }
        } else {
            match self.dynamic.create(&message, self.policy, &mut self.refusals)? {
                dynamic::CreateOutcome::Pass => (Some(message), None),
                dynamic::CreateOutcome::Reply(answer) => (None, Some(answer)),
            }
        };
        if let Some(answer) = answer {
            let owed = &mut self.pending_replies[direction_index(way.opposite())];
            if owed.len() >= MAX_PENDING_REPLIES && !self.opposite_can_flush {
                return Err(RdpError::TooManyPendingReplies);
            }
            owed.push_back((purpose, answer));
        }
        match pass {
            // It came in one chunk: as it was.
            Some(message) if message.len() == chunk.length => out.push(pdu),
            Some(message) => self.write_message(&message, data, purpose, way, out)?,
            None => {}
        }
        Ok(())
    }

    fn write_message(
        &self,
        message: &[u8],
        data: SendData,
        purpose: Purpose,
        way: Direction,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let show_protocol =
            self.channels.with_purpose(purpose).is_some_and(|channel| channel.show_protocol);
        let to = MessageAddress {
            direction: way,
            initiator: data.initiator,
            channel: data.channel,
            show_protocol,
        };
        let mut bytes = Vec::new();
        chunk::write(&mut bytes, to, message)?;
        out.push(bytes.into());
        Ok(())
    }

    /// Whether something is due, and no message it would break into has passed in part.
    pub(super) fn has_pending(&self, way: Direction) -> bool {
        !self.pending_replies[direction_index(way)].is_empty() && !self.is_passing(way)
    }

    /// Whether nothing is owed, and whatever comes to be owed can be said at once.
    pub(super) fn has_nothing_pending(&self, way: Direction) -> bool {
        self.pending_replies[direction_index(way)].is_empty() && !self.is_passing(way)
    }

    /// Whether a message of a channel has passed in part.
    pub(super) fn is_passing(&self, way: Direction) -> bool {
        let streams = &self.messages[direction_index(way)];
        streams.clipboard.is_passing() || streams.dynamic.is_passing()
    }

    pub(super) fn flush_pending(
        &mut self,
        way: Direction,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        while self.has_pending(way)
            && let Some((purpose, message)) = self.pending_replies[direction_index(way)].pop_front()
        {
            let Some(channel) = self.channels.with_purpose(purpose).and_then(|c| c.id) else {
                continue;
            };
            let initiator = match way {
                Direction::Up => self.initiator,
                Direction::Down => SERVER_INITIATOR,
            };
            let data = SendData { initiator, channel, offset: 0, length: 0 };
            self.write_message(&message, data, purpose, way, out)?;
        }
        Ok(())
    }

    /// What is the same both ways: data on channels other than I/O.
    pub(super) fn decide_data(
        &mut self,
        seen: &[u8],
        data: SendData,
        role: Role,
        way: Direction,
    ) -> Result<PduDecision, RdpError> {
        match role {
            Role::Io | Role::Message => Ok(PduDecision::Pass),
            Role::Virtual(purpose) => self.on_channel(seen, data, purpose, way),
            Role::Forbidden(place) => {
                let name = self.channels.list.get(place).map(|channel| channel.name.clone());
                Ok(self.refuse(
                    name.map_or(RefusalKind::Other, RefusalKind::StaticChannel),
                    way,
                    data.length,
                ))
            }
            Role::Unknown => Ok(self.refuse(RefusalKind::Other, way, data.length)),
        }
    }
}

/// A fast-path PDU; its flags say whether it is encrypted or signed by RDP's own means (2.2.8.1.2).
pub(super) fn check_fast_path(seen: &[u8]) -> Result<(), RdpError> {
    if seen.first().is_some_and(|first| first & 0xc0 != 0) {
        Err(RdpError::Encrypted)
    } else {
        Ok(())
    }
}
