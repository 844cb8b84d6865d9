//! Dynamic virtual channels (MS-RDPEDYC) on the static channel `drdynvc`: the server opens them by
//! name after the connection is set up.
//!
//! Only listed channels pass: pictures, sound, the desktop's size, touch. Requests for any other
//! are not forwarded to the client; the gateway replies in its place that there is no listener.

use super::RdpError;
use super::channels::ChannelName;
use super::chunk::Disposition;
use super::reader::Reader;
use super::refusal::{RefusalCounts, RefusalKind};
use super::{Direction, Policy};

/// Most channels open at once.
const MAX_OPEN: usize = 64;
/// Longest capability message (2.2.1).
const MAX_CAPABILITIES: usize = 64;
/// Longest request to open a channel, name included.
const MAX_CREATE: usize = 512;
/// Response of a client without a listener of that name (2.2.2.2; `STATUS_UNSUCCESSFUL`).
const NO_LISTENER: u32 = 0xc000_0001;

/// Commands: the upper four bits of a message's first byte (2.2).
mod command {
    pub(super) const CREATE: u8 = 1;
    pub(super) const DATA_FIRST: u8 = 2;
    pub(super) const DATA: u8 = 3;
    pub(super) const CLOSE: u8 = 4;
    pub(super) const CAPABILITIES: u8 = 5;
    pub(super) const DATA_FIRST_COMPRESSED: u8 = 6;
    pub(super) const DATA_COMPRESSED: u8 = 7;
}

/// Channels that a desktop needs and that carry nothing else.
///
/// The graphics pipeline (`Microsoft::Windows::RDS::Graphics`, MS-RDPEGFX) is not among them: it
/// resizes the desktop in messages that are compressed with a history, so an invalid size could not
/// be detected. The page's client does not support it; servers are told so ([`super::gcc`]).
const ALLOWED_CHANNELS: &[&[u8]] = &[
    DISPLAY,
    b"Microsoft::Windows::RDS::Geometry::v08.01",
    b"Microsoft::Windows::RDS::Video::Control::v08.01",
    b"Microsoft::Windows::RDS::Video::Data::v08.01",
    b"AUDIO_PLAYBACK_DVC",
    b"AUDIO_PLAYBACK_LOSSY_DVC",
];
/// The desktop's size (MS-RDPEDISP). A view-only client may not change it; its messages are dropped
/// without a reply.
const DISPLAY: &[u8] = b"Microsoft::Windows::RDS::DisplayControl";
/// Touch and pen (MS-RDPEI): input.
const INPUT: &[u8] = b"Microsoft::Windows::RDS::Input";

fn allowed(name: &[u8], policy: Policy) -> bool {
    ALLOWED_CHANNELS.contains(&name) || name == INPUT && !policy.read_only
}

/// The open, allowed dynamic channels of one connection, by id.
#[derive(Debug, Default)]
pub(super) struct DynamicChannels {
    open: Vec<OpenChannel>,
}

#[derive(Clone, Copy, Debug)]
struct OpenChannel {
    id: u32,
    /// The client's data on it is input that policy forbids.
    drop_input: bool,
}

/// What is done with a server's Create Request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CreateOutcome {
    Pass,
    Reply(Vec<u8>),
}

/// A message's command and channel id, and the width of the id's field.
fn parse_header<'a>(bytes: &'a [u8]) -> Result<(u8, u32, u8, Reader<'a>), RdpError> {
    let mut reader = Reader::new(bytes, "dynamic channel message");
    let first = reader.u8()?;
    let width = first & 3;
    let id = match (first >> 4, width) {
        // Its width field is unused.
        (command::CAPABILITIES, _) => 0,
        (_, 0) => u32::from(reader.u8()?),
        (_, 1) => u32::from(reader.u16()?),
        (_, 2) => reader.u32()?,
        (_, _) => return Err(reader.malformed()),
    };
    Ok((first >> 4, id, width, reader))
}

impl DynamicChannels {
    /// Decides by the first bytes of a message of `total` bytes.
    pub(super) fn decide(
        &mut self,
        header: &[u8],
        total: usize,
        direction: Direction,
        refusals: &mut RefusalCounts,
    ) -> Result<Disposition, RdpError> {
        let (command, id, _, mut reader) = parse_header(header)?;
        let open = self.open.iter().find(|open| open.id == id).copied();
        let (is_open, drops_input) = (open.is_some(), open.is_some_and(|open| open.drop_input));
        let disposition = match (command, direction) {
            (command::CAPABILITIES, _) if total <= MAX_CAPABILITIES => Disposition::Pass,
            (command::CREATE, Direction::Down) if total <= MAX_CREATE => Disposition::Reassemble,
            (command::CREATE, Direction::Down) => return Err(reader.malformed()),
            (command::CREATE, Direction::Up) if is_open && total <= MAX_CAPABILITIES => {
                // A negative status: the client has no listener either.
                if reader.u32()?.cast_signed() < 0 {
                    self.open.retain(|other| other.id != id);
                }
                Disposition::Pass
            }
            (command::CLOSE, _) if is_open && total <= MAX_CAPABILITIES => {
                self.open.retain(|other| other.id != id);
                Disposition::Pass
            }
            // A side may close a channel whose refusal it has not seen.
            (command::CLOSE, _) => Disposition::Drop,
            (
                command::DATA_FIRST
                | command::DATA
                | command::DATA_FIRST_COMPRESSED
                | command::DATA_COMPRESSED,
                Direction::Up,
            ) if drops_input => {
                refusals.count(RefusalKind::Input, direction, total);
                Disposition::Drop
            }
            (
                command::DATA_FIRST
                | command::DATA
                | command::DATA_FIRST_COMPRESSED
                | command::DATA_COMPRESSED,
                _,
            ) if is_open => Disposition::Pass,
            // Among them Soft-Sync, which moves channels to transports outside the gateway (2.2.5).
            (_, _) => {
                refusals.count(RefusalKind::DynamicData, direction, total);
                Disposition::Drop
            }
        };
        Ok(disposition)
    }

    /// Handles a server's Create Request.
    pub(super) fn create(
        &mut self,
        message: &[u8],
        policy: Policy,
        refusals: &mut RefusalCounts,
    ) -> Result<CreateOutcome, RdpError> {
        let (_, id, width, reader) = parse_header(message)?;
        let name = reader.rest().split(|&b| b == 0).next().unwrap_or_default();
        self.open.retain(|other| other.id != id);
        if allowed(name, policy) && self.open.len() < MAX_OPEN {
            self.open.push(OpenChannel { id, drop_input: policy.read_only && name == DISPLAY });
            return Ok(CreateOutcome::Pass);
        }
        refusals.count(RefusalKind::DynamicChannel(ChannelName::new(name)), Direction::Down, 0);
        let mut reply = vec![command::CREATE << 4 | width];
        match width {
            0 => reply.push(id as u8),
            1 => reply.extend_from_slice(&(id as u16).to_le_bytes()),
            _ => reply.extend_from_slice(&id.to_le_bytes()),
        }
        reply.extend_from_slice(&NO_LISTENER.to_le_bytes());
        Ok(CreateOutcome::Reply(reply))
    }
}
