//! Dynamic virtual channels (MS-RDPEDYC) on the static channel `drdynvc`: the server opens them by
//! name, after the connection is up.
//!
//! Only those of a list are let be: pictures, sound, the desktop's size, touch. Of any other the
//! client never hears; the server is told in its stead that the client has no listener for it.

use super::RdpError;
use super::channels::ChannelName;
use super::chunk::Disposition;
use super::reader::Reader;
use super::refusal::{RefusalCounts, RefusalKind};
use super::{Direction, Policy};

/// Most channels open at once.
const MAX_OPEN: usize = 64;
/// Longest message that negotiates versions (2.2.1).
const MAX_CAPABILITIES: usize = 64;
/// Longest request to open a channel, name included.
const MAX_CREATE: usize = 512;
/// What a client answers that has no listener of that name (2.2.2.2; `STATUS_UNSUCCESSFUL`).
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

/// Channels without which a desktop is not one, and through which nothing but it travels.
///
/// Not among them is the graphics pipeline (`Microsoft::Windows::RDS::Graphics`, MS-RDPEGFX): it
/// resizes the desktop in messages that are compressed against all that came before them, so that a
/// size that cannot be could not be seen. The page's client has none; servers are told so
/// ([`super::gcc`]).
const ALLOWED_CHANNELS: &[&[u8]] = &[
    DISPLAY,
    b"Microsoft::Windows::RDS::Geometry::v08.01",
    b"Microsoft::Windows::RDS::Video::Control::v08.01",
    b"Microsoft::Windows::RDS::Video::Data::v08.01",
    b"AUDIO_PLAYBACK_DVC",
    b"AUDIO_PLAYBACK_LOSSY_DVC",
];
/// The desktop's size (MS-RDPEDISP), among them. Who may only look may not change it, and a client
/// that does not try needs not be told.
const DISPLAY: &[u8] = b"Microsoft::Windows::RDS::DisplayControl";
/// Touch and pen (MS-RDPEI): input.
const INPUT: &[u8] = b"Microsoft::Windows::RDS::Input";

fn allowed(name: &[u8], policy: Policy) -> bool {
    ALLOWED_CHANNELS.contains(&name) || name == INPUT && !policy.read_only
}

/// The dynamic channels of one connection that are open and allowed, by number.
#[derive(Debug, Default)]
pub(super) struct DynamicChannels {
    open: Vec<OpenChannel>,
}

#[derive(Clone, Copy, Debug)]
struct OpenChannel {
    id: u32,
    /// What the client sends on it is input that policy forbids.
    drop_input: bool,
}

/// What becomes of a server's request to open a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CreateOutcome {
    Pass,
    Reply(Vec<u8>),
}

/// A message's command and channel number, and the width of the number's field as it was written.
fn parse_header<'a>(bytes: &'a [u8]) -> Result<(u8, u32, u8, Reader<'a>), RdpError> {
    let mut reader = Reader::new(bytes, "dynamic channel message");
    let first = reader.u8()?;
    let width = first & 3;
    let id = match (first >> 4, width) {
        // Its field of a width says nothing.
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
        seen: &[u8],
        total: usize,
        way: Direction,
        refusals: &mut RefusalCounts,
    ) -> Result<Disposition, RdpError> {
        let (command, id, _, mut reader) = parse_header(seen)?;
        let open = self.open.iter().find(|open| open.id == id).copied();
        let (is_open, is_deaf) = (open.is_some(), open.is_some_and(|open| open.drop_input));
        let fate = match (command, way) {
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
            // A side may close what it never heard was refused.
            (command::CLOSE, _) => Disposition::Drop,
            (
                command::DATA_FIRST
                | command::DATA
                | command::DATA_FIRST_COMPRESSED
                | command::DATA_COMPRESSED,
                Direction::Up,
            ) if is_deaf => {
                refusals.count(RefusalKind::Input, way, total);
                Disposition::Drop
            }
            (
                command::DATA_FIRST
                | command::DATA
                | command::DATA_FIRST_COMPRESSED
                | command::DATA_COMPRESSED,
                _,
            ) if is_open => Disposition::Pass,
            // Among them what moves channels to transports that do not pass the gateway (2.2.5).
            (_, _) => {
                refusals.count(RefusalKind::DynamicData, way, total);
                Disposition::Drop
            }
        };
        Ok(fate)
    }

    /// Takes a server's request to open a channel.
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
        let mut answer = vec![command::CREATE << 4 | width];
        match width {
            0 => answer.push(id as u8),
            1 => answer.extend_from_slice(&(id as u16).to_le_bytes()),
            _ => answer.extend_from_slice(&id.to_le_bytes()),
        }
        answer.extend_from_slice(&NO_LISTENER.to_le_bytes());
        Ok(CreateOutcome::Reply(answer))
    }
}
