//! Refusals for the audit log, without content.
//!
//! Refusals are counted per kind and direction until they are taken, so many of them cost one entry
//! and no memory.

use super::Direction;
use super::channels::ChannelName;

/// Kinds that are counted separately; further ones are counted as [`RefusalKind::Other`].
const MAX_KINDS: usize = 32;

/// What was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// Text, pictures and the like on the clipboard.
    Clipboard,
    /// Files on the clipboard.
    ClipboardFiles,
    /// Data on a forbidden static channel.
    StaticChannel(ChannelName),
    /// A dynamic channel the server requested.
    DynamicChannel(ChannelName),
    /// Data on a dynamic channel that is not open.
    DynamicData,
    /// Input of a view-only user.
    Input,
    /// Data on channels that are not open.
    Other,
}

impl RefusalKind {
    /// Reason code of the audit log.
    #[must_use]
    pub fn reason_code(&self) -> &'static str {
        match self {
            Self::Clipboard => "clipboard",
            Self::ClipboardFiles => "clipboard_files",
            Self::StaticChannel(_) => "static_channel",
            Self::DynamicChannel(_) => "dynamic_channel",
            Self::DynamicData => "dynamic_data",
            Self::Input => "input",
            Self::Other => "other",
        }
    }
}

/// Refusals of one kind in one direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub direction: Direction,
    pub count: u64,
    /// Bytes of content, as far as known: a refused announcement or request has no size.
    pub bytes: u64,
}

/// Refusals that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct RefusalCounts(Vec<Refusal>);

impl RefusalCounts {
    pub(super) fn count(&mut self, kind: RefusalKind, direction: Direction, bytes: usize) {
        let bytes = bytes as u64;
        let full = self.0.len() >= MAX_KINDS - 2;
        if let Some(existing) =
            self.0.iter_mut().find(|r| r.kind == kind && r.direction == direction)
        {
            existing.count = existing.count.saturating_add(1);
            existing.bytes = existing.bytes.saturating_add(bytes);
        } else if full && kind != RefusalKind::Other {
            self.count(RefusalKind::Other, direction, bytes as usize);
        } else {
            self.0.push(Refusal { kind, direction, count: 1, bytes });
        }
    }

    pub(super) fn take(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_are_counted_in_bounded_memory() {
        let mut refusals = RefusalCounts::default();
        for i in 0..1000usize {
            refusals.count(RefusalKind::Input, Direction::Up, 10);
            refusals.count(
                RefusalKind::DynamicChannel(ChannelName::new(i.to_string().as_bytes())),
                Direction::Down,
                0,
            );
            refusals.count(RefusalKind::Other, Direction::Up, 1);
        }
        let taken = refusals.take();
        assert!(taken.len() <= MAX_KINDS);
        assert_eq!(taken.iter().map(|r| r.count).sum::<u64>(), 3000);
        assert!(taken.contains(&Refusal {
            kind: RefusalKind::Input,
            direction: Direction::Up,
            count: 1000,
            bytes: 10_000
        }));
        assert!(refusals.is_empty());
    }
}
