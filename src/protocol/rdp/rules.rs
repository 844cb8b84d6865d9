//! The rules: what is known of the connection, and what both directions have in common. What
//! becomes of each PDU is in [`super::up`] and [`super::down`].

use super::channels::{Channels, Purpose, Role};
use super::chunk::{self, Address, Chunk, Fate, Messages};
use super::clipboard::{self, ClipboardState};
use super::dynamic::{self, Dynamic};
use super::error_info::ErrorInfo;
use super::filter::Edits;
use super::lane::Verdict;
use super::mcs::SendData;
use super::refusal::{Refusals, Refused};
use super::{Direction, Policy, RdpError};
use bytes::Bytes;
use std::collections::VecDeque;

/// Most answers that wait for a direction that is in the midst of something.
const MAX_OWED: usize = 64;
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
    Live { licensing: bool },
}

/// Everything that is known of the connection.
pub(super) struct Rules {
    pub(super) policy: Policy,
    pub(super) edits: Edits,
    pub(super) phase: Phase,
    pub(super) channels: Channels,
    /// The client's own initiator, from the server's attach-user confirmation.
    pub(super) initiator: u16,
    clipboard: ClipboardState,
    dynamic: Dynamic,
    /// The messages of the two channels that are looked into, by direction.
    messages: [Streams; 2],
    owed: [VecDeque<(Purpose, Vec<u8>)>; 2],
    pub(super) refusals: Refusals,
    /// What is owed the other way can be said as soon as what is being fed is through: then as much
    /// may be owed as was asked for in one go, and a limit would depend on how the bytes were cut.
    pub(super) is_heard: bool,
    /// What the server said last of why it ends the connection.
    pub(super) error_info: Option<ErrorInfo>,
}

/// The channels that are looked into, in one direction.
#[derive(Default)]
struct Streams {
    clipboard: Messages,
    dynamic: Messages,
}

fn index(way: Direction) -> usize {
    match way {
        Direction::Up => 0,
        Direction::Down => 1,
    }
}

impl Rules {
    pub(super) fn new(policy: Policy, edits: Edits) -> Self {
        Self {
            policy,
            edits,
            phase: Phase::Start,
            channels: Channels::default(),
            initiator: 0,
            clipboard: ClipboardState::default(),
            dynamic: Dynamic::default(),
            messages: Default::default(),
            owed: Default::default(),
            refusals: Refusals::default(),
            is_heard: false,
            error_info: None,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    /// Whether nothing of what the client sends needs to be looked at.
    pub(super) fn is_open(&self) -> bool {
        self.is_live() && self.policy.is_open() && self.channels.forbidden().next().is_none()
    }

    pub(super) fn refuse(&mut self, what: Refused, way: Direction, bytes: usize) -> Verdict {
        self.refusals.add(what, way, bytes);
        Verdict::Drop
    }

    /// A chunk on a virtual channel that is allowed.
    fn on_channel(
        &mut self,
        seen: &[u8],
        data: SendData,
        purpose: Purpose,
        way: Direction,
    ) -> Result<Verdict, RdpError> {
        let open = match purpose {
            Purpose::Sound | Purpose::Devices => true,
            // A clipboard that may carry anything, and a connection that may do anything.
            Purpose::Clipboard => {
                self.policy.clipboard == super::Clipboard::Both && self.policy.files
            }
            Purpose::Dynamic => self.policy.is_open(),
        };
        if open {
            return Ok(Verdict::Pass);
        }
        let chunk = Chunk::read(seen, data, purpose.name())?;
        let (policy, refusals) = (self.policy, &mut self.refusals);
        let head = seen.get(chunk.at..).unwrap_or_default();
        let streams = &mut self.messages[index(way)];
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
            Fate::Pass => Verdict::Pass,
            Fate::Drop => Verdict::Drop,
            Fate::Gather => Verdict::Whole,
        })
    }

    /// A chunk of a message that is gathered: once it is whole, puts out what becomes of it.
    pub(super) fn gather(
        &mut self,
        pdu: Bytes,
        data: SendData,
        purpose: Purpose,
        way: Direction,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let chunk = Chunk::read(&pdu, data, purpose.name())?;
        let part = pdu.get(chunk.at..).unwrap_or_default();
        let streams = &mut self.messages[index(way)];
        let stream = if purpose == Purpose::Clipboard {
            &mut streams.clipboard
        } else {
            &mut streams.dynamic
        };
        let Some(message) = stream.gather(part) else { return Ok(()) };
        let (pass, answer) = if purpose == Purpose::Clipboard {
            match self.clipboard.whole(&message, way, self.policy, &mut self.refusals)? {
                clipboard::Outcome::Pass => (Some(message), None),
                clipboard::Outcome::Replace(other) => {
                    return self.put_out(&other, data, purpose, way, out);
                }
                clipboard::Outcome::Answer(answer) => (None, Some(answer)),
            }
        } else {
            match self.dynamic.create(&message, self.policy, &mut self.refusals)? {
                dynamic::Outcome::Pass => (Some(message), None),
                dynamic::Outcome::Answer(answer) => (None, Some(answer)),
            }
        };
        if let Some(answer) = answer {
            let owed = &mut self.owed[index(way.back())];
            if owed.len() >= MAX_OWED && !self.is_heard {
                return Err(RdpError::Flood);
            }
            owed.push_back((purpose, answer));
        }
        match pass {
            // It came in one chunk: as it was.
            Some(message) if message.len() == chunk.length => out.push(pdu),
            Some(message) => self.put_out(&message, data, purpose, way, out)?,
            None => {}
        }
        Ok(())
    }

    fn put_out(
        &self,
        message: &[u8],
        data: SendData,
        purpose: Purpose,
        way: Direction,
        out: &mut Vec<Bytes>,
    ) -> Result<(), RdpError> {
        let show_protocol = self.channels.of(purpose).is_some_and(|channel| channel.show_protocol);
        let to = Address {
            toward: way,
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
    pub(super) fn owes(&self, way: Direction) -> bool {
        !self.owed[index(way)].is_empty() && !self.is_passing(way)
    }

    /// Whether nothing is owed, and whatever comes to be owed can be said at once.
    pub(super) fn is_square(&self, way: Direction) -> bool {
        self.owed[index(way)].is_empty() && !self.is_passing(way)
    }

    /// Whether a message of a channel has passed in part.
    pub(super) fn is_passing(&self, way: Direction) -> bool {
        let streams = &self.messages[index(way)];
        streams.clipboard.is_passing() || streams.dynamic.is_passing()
    }

    pub(super) fn speak(&mut self, way: Direction, out: &mut Vec<Bytes>) -> Result<(), RdpError> {
        while self.owes(way)
            && let Some((purpose, message)) = self.owed[index(way)].pop_front()
        {
            let Some(channel) = self.channels.of(purpose).and_then(|c| c.id) else { continue };
            let initiator = match way {
                Direction::Up => self.initiator,
                Direction::Down => SERVER_INITIATOR,
            };
            let data = SendData { initiator, channel, at: 0, length: 0 };
            self.put_out(&message, data, purpose, way, out)?;
        }
        Ok(())
    }

    /// What is the same both ways: data on channels other than I/O.
    pub(super) fn elsewhere(
        &mut self,
        seen: &[u8],
        data: SendData,
        role: Role,
        way: Direction,
    ) -> Result<Verdict, RdpError> {
        match role {
            Role::Io | Role::Message => Ok(Verdict::Pass),
            Role::Virtual(purpose) => self.on_channel(seen, data, purpose, way),
            Role::Forbidden(place) => {
                let name = self.channels.list.get(place).map(|channel| channel.name.clone());
                Ok(self.refuse(
                    name.map_or(Refused::Other, Refused::StaticChannel),
                    way,
                    data.length,
                ))
            }
            Role::Unknown => Ok(self.refuse(Refused::Other, way, data.length)),
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
