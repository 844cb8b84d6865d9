//! What was refused: for the audit log, without content.
//!
//! Refusals are counted per thing and direction until they are taken, so that a flood of them costs
//! one entry, and no memory.

use super::Direction;
use super::channels::ChannelName;

/// Different things that are kept apart; what comes beyond is counted as [`Refused::Other`].
const MAX_KINDS: usize = 32;

/// A thing that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// Text, pictures and the like on the clipboard.
    Clipboard,
    /// Files on the clipboard.
    ClipboardFiles,
    /// Data on a static channel the client may not have.
    StaticChannel(ChannelName),
    /// A dynamic channel the server wanted to open.
    DynamicChannel(ChannelName),
    /// Data on a dynamic channel that is not open.
    DynamicData,
    /// Input of a user who may only look.
    Input,
    /// Whatever else: data on channels nobody opened.
    Other,
}

impl RefusalKind {
    /// Its word in the audit log.
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
    /// What was refused.
    pub kind: RefusalKind,
    /// Which way it would have gone.
    pub direction: Direction,
    /// How often.
    pub count: u64,
    /// How many bytes it would have been, as far as that is known: a refused announcement or
    /// request has no size.
    pub bytes: u64,
}

/// Refusals that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct RefusalCounts(Vec<Refusal>);

impl RefusalCounts {
    pub(super) fn count(&mut self, what: RefusalKind, direction: Direction, bytes: usize) {
        let bytes = bytes as u64;
        let full = self.0.len() >= MAX_KINDS - 2;
        if let Some(same) = self.0.iter_mut().find(|r| r.kind == what && r.direction == direction) {
            same.count = same.count.saturating_add(1);
            same.bytes = same.bytes.saturating_add(bytes);
        } else if full && what != RefusalKind::Other {
            self.count(RefusalKind::Other, direction, bytes as usize);
        } else {
            self.0.push(Refusal { kind: what, direction, count: 1, bytes });
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
    fn a_flood_is_counted_and_not_kept() {
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
