//! Static virtual channels (2.2.6): which of them a client may have, and their channel ids.
//!
//! A channel that is not allowed stays in the client's list under a name no server knows (`off00`,
//! `off01`, ...): ids are assigned by position, so the list keeps its length, and the server never
//! sees the real name and never opens the channel. Data on such an id is dropped in both
//! directions.

use super::{Clipboard, Policy, RdpError};

/// Most channels a client may request (2.2.1.3.4).
pub const MAX_CHANNELS: usize = 31;
/// Bytes of a channel name, terminator included.
pub(super) const NAME_LENGTH: usize = 8;
/// `CHANNEL_OPTION_SHOW_PROTOCOL`: chunks carry the flag of the same name.
pub(super) const OPTION_SHOW_PROTOCOL: u32 = 0x0020_0000;

/// Purpose of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// `cliprdr`: the clipboard.
    Clipboard,
    /// `drdynvc`: dynamic virtual channels.
    Dynamic,
    /// `rdpdr`: drives, printers, ports and smart cards.
    Devices,
    /// `rdpsnd`: sound from the desktop.
    Sound,
}

impl Purpose {
    fn named(name: &[u8]) -> Option<Self> {
        [Self::Clipboard, Self::Dynamic, Self::Devices, Self::Sound]
            .into_iter()
            .find(|p| p.name().as_bytes().eq_ignore_ascii_case(name))
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clipboard => "cliprdr",
            Self::Dynamic => "drdynvc",
            Self::Devices => "rdpdr",
            Self::Sound => "rdpsnd",
        }
    }

    fn allowed(self, policy: Policy) -> bool {
        match self {
            Self::Clipboard => policy.clipboard != Clipboard::None,
            Self::Devices => policy.files,
            Self::Dynamic | Self::Sound => true,
        }
    }
}

/// A channel name from a peer, safe to print: at most 64 graphic ASCII characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelName(String);

impl ChannelName {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let safe = |&b: &u8| if b.is_ascii_graphic() { char::from(b) } else { '?' };
        Self(bytes.iter().take(64).map(safe).collect())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A channel the client requested.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channel {
    /// `None` when it is forbidden.
    pub purpose: Option<Purpose>,
    /// Name as the client gave it.
    pub name: ChannelName,
    /// Channel id, once the server has assigned it.
    pub id: Option<u16>,
    /// Whether its chunks carry `CHANNEL_FLAG_SHOW_PROTOCOL`.
    pub(super) show_protocol: bool,
}

impl Channel {
    /// Decides on one entry of the client's list and rewrites its name.
    pub(super) fn filter_entry(
        entry: &mut [u8; NAME_LENGTH],
        options: u32,
        previous: &[Self],
        policy: Policy,
    ) -> Self {
        let name = entry.split(|&b| b == 0).next().unwrap_or_default();
        let purpose = Purpose::named(name).filter(|p| {
            p.allowed(policy) && previous.iter().all(|other| other.purpose != Some(*p))
        });
        let printable = ChannelName::new(name);
        *entry = [0; NAME_LENGTH];
        let new_name =
            purpose.map_or_else(|| format!("off{:02}", previous.len()), |p| p.name().to_owned());
        for (slot, byte) in entry.iter_mut().zip(new_name.bytes()) {
            *slot = byte;
        }
        Self {
            purpose,
            name: printable,
            id: None,
            show_protocol: options & OPTION_SHOW_PROTOCOL != 0,
        }
    }
}

/// What a channel id stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// The I/O channel: share control, input, pictures.
    Io,
    /// The message channel (2.2.1.3.7): measurements and heartbeats.
    Message,
    /// A virtual channel that is allowed.
    Virtual(Purpose),
    /// A forbidden virtual channel: its index in the list.
    Forbidden(usize),
    /// An id that the server did not assign.
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Channels {
    pub(super) io: u16,
    pub(super) message: Option<u16>,
    pub(super) list: Vec<Channel>,
}

impl Channels {
    /// Assigns the server's channel ids by position. A server may omit the last ones, and 0 is no
    /// id.
    pub(super) fn assign(
        &mut self,
        io: u16,
        message: Option<u16>,
        ids: &[u16],
    ) -> Result<(), RdpError> {
        let mut used = vec![io];
        used.extend(message);
        if ids.len() > self.list.len() || message == Some(io) {
            return Err(RdpError::Malformed("channel list"));
        }
        for (channel, &id) in self.list.iter_mut().zip(ids) {
            if id == 0 {
                continue;
            }
            if used.contains(&id) {
                return Err(RdpError::Malformed("channel list"));
            }
            used.push(id);
            channel.id = Some(id);
        }
        (self.io, self.message) = (io, message);
        Ok(())
    }

    pub(super) fn role(&self, id: u16) -> Role {
        if id == self.io {
            return Role::Io;
        }
        if self.message == Some(id) {
            return Role::Message;
        }
        match self.list.iter().enumerate().find(|(_, channel)| channel.id == Some(id)) {
            Some((_, Channel { purpose: Some(purpose), .. })) => Role::Virtual(*purpose),
            Some((index, Channel { purpose: None, .. })) => Role::Forbidden(index),
            None => Role::Unknown,
        }
    }

    /// The client's channel of this purpose.
    #[must_use]
    pub fn with_purpose(&self, purpose: Purpose) -> Option<&Channel> {
        self.list.iter().find(|channel| channel.purpose == Some(purpose))
    }

    /// The channels the client requested and may not have.
    pub fn forbidden(&self) -> impl Iterator<Item = &Channel> {
        self.list.iter().filter(|channel| channel.purpose.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(names: &[&str], policy: Policy) -> (Vec<Channel>, Vec<String>) {
        let (mut list, mut new_name) = (Vec::new(), Vec::new());
        for name in names {
            let mut entry = [0; NAME_LENGTH];
            entry[..name.len()].copy_from_slice(name.as_bytes());
            list.push(Channel::filter_entry(&mut entry, 0, &list, policy));
            new_name
                .push(String::from_utf8(entry.to_vec()).unwrap().trim_end_matches('\0').to_owned());
        }
        (list, new_name)
    }

    #[test]
    fn only_known_and_allowed_channels_keep_their_names() {
        let unrestricted = Policy { clipboard: Clipboard::Both, files: true, read_only: false };
        let restricted = Policy { clipboard: Clipboard::None, files: false, read_only: true };
        let requested = ["rdpdr", "rdpsnd", "CLIPRDR", "drdynvc", "rail", "cliprdr", "x\0rdpdr"];
        assert_eq!(
            decide(&requested, unrestricted).1,
            ["rdpdr", "rdpsnd", "cliprdr", "drdynvc", "off04", "off05", "off06"]
        );
        assert_eq!(
            decide(&requested, restricted).1,
            ["off00", "rdpsnd", "off02", "drdynvc", "off04", "off05", "off06"]
        );
    }

    #[test]
    fn ids_are_assigned_by_position_and_are_unique() {
        let unrestricted = Policy { clipboard: Clipboard::Both, files: true, read_only: false };
        let mut channels = Channels {
            list: decide(&["rdpdr", "rail", "cliprdr"], unrestricted).0,
            ..Channels::default()
        };
        assert!(channels.clone().assign(1003, None, &[1004, 1004]).is_err());
        assert!(channels.clone().assign(1003, None, &[1003]).is_err());
        assert!(channels.clone().assign(1003, Some(1004), &[1004]).is_err());
        assert!(channels.clone().assign(1003, None, &[1, 2, 3, 4]).is_err());
        channels.assign(1003, Some(1008), &[1004, 1005]).unwrap();
        let roles: Vec<Role> = (1003..1009).map(|id| channels.role(id)).collect();
        use Role::{Forbidden, Io, Message, Unknown, Virtual};
        assert_eq!(roles, [Io, Virtual(Purpose::Devices), Forbidden(1), Unknown, Unknown, Message]);
        assert_eq!(channels.role(0), Unknown);
    }
}
