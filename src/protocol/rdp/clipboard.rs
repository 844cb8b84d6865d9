//! The clipboard channel (MS-RDPECLIP).
//!
//! The side with new content announces its formats (Format List); the other side acknowledges,
//! requests one (Format Data Request) and receives it (Format Data Response). Files go by File
//! Contents Request and Response, while the clipboard may be locked.
//!
//! A list of content that may not pass is answered in the other side's place and not forwarded; so
//! is a request for such content. Every request is answered, so that no side waits; responses with
//! forbidden content do not pass even if they were not requested.

use super::chunk::Disposition;
use super::formats::{self, HDROP};
use super::reader::{Reader, u16_at, u32_at, write_at};
use super::refusal::{RefusalCounts, RefusalKind};
use super::{Direction, Policy, RdpError};

/// Length of a message header: type, flags, length (2.2.1).
const HEADER: usize = 8;
const MAX_CONTROL_MESSAGE: usize = 32;
const RESPONSE_OK: u16 = 1;
const RESPONSE_FAIL: u16 = 2;

/// Message types (2.2.1).
mod kind {
    pub(super) const MONITOR_READY: u16 = 1;
    pub(super) const FORMAT_LIST: u16 = 2;
    pub(super) const FORMAT_LIST_RESPONSE: u16 = 3;
    pub(super) const FORMAT_DATA_REQUEST: u16 = 4;
    pub(super) const FORMAT_DATA_RESPONSE: u16 = 5;
    pub(super) const TEMP_DIRECTORY: u16 = 6;
    pub(super) const CAPABILITIES: u16 = 7;
    pub(super) const FILE_CONTENTS_REQUEST: u16 = 8;
    pub(super) const FILE_CONTENTS_RESPONSE: u16 = 9;
    pub(super) const LOCK: u16 = 10;
    pub(super) const UNLOCK: u16 = 11;
}

/// General capability flags (2.2.2.1.1.1): long names; and all that concern files.
const LONG_NAMES: u32 = 0x02;
const FILES: u32 = 0x04 | 0x08 | 0x10 | 0x20;

/// What is done with a reassembled message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MessageOutcome {
    Pass,
    Replace(Vec<u8>),
    /// It is dropped, and its sender gets a reply.
    Reply(Vec<u8>),
}

#[derive(Debug, Default)]
pub(super) struct ClipboardState {
    /// Whether each side supports long names; they are used when both do.
    long_names: [bool; 2],
    /// File formats in the last list of each side.
    file_formats: [Vec<u32>; 2],
    /// Whether the client's first list was seen, which ends the channel's initialization (1.3.2.1).
    initialized: bool,
}

fn side_index(from: Direction) -> usize {
    match from {
        Direction::Up => 0,
        Direction::Down => 1,
    }
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    // Bodies are parts of reassembled messages, far below 4 GiB.
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out
}

impl ClipboardState {
    /// Decides by the first bytes of a message of `total` bytes.
    pub(super) fn decide(
        &self,
        head: &[u8],
        total: usize,
        direction: Direction,
        policy: Policy,
        refusals: &mut RefusalCounts,
    ) -> Result<Disposition, RdpError> {
        let mut reader = Reader::new(head, "clipboard message");
        let (kind, _flags, length) = (reader.u16()?, reader.u16()?, reader.u32()? as usize);
        // Some servers pad messages to four bytes, or by four bytes.
        if HEADER.checked_add(length).is_none_or(|whole| whole > total) {
            return Err(reader.malformed());
        }
        let pass_if = |allowed, what, refusals: &mut RefusalCounts| {
            if allowed {
                return Disposition::Pass;
            }
            refusals.count(what, direction, length);
            Disposition::Drop
        };
        let clipboard = policy.clipboard;
        Ok(match kind {
            kind::FORMAT_LIST
            | kind::FORMAT_DATA_REQUEST
            | kind::FILE_CONTENTS_REQUEST
            | kind::CAPABILITIES => Disposition::Reassemble,
            kind::MONITOR_READY | kind::FORMAT_LIST_RESPONSE => {
                pass_if(total <= MAX_CONTROL_MESSAGE, RefusalKind::Clipboard, refusals)
            }
            kind::FORMAT_DATA_RESPONSE => {
                pass_if(clipboard.allows(direction), RefusalKind::Clipboard, refusals)
            }
            // The client names its folder for files at every start (2.2.2.3): nobody transferred
            // anything, so holding it back is no refusal.
            kind::TEMP_DIRECTORY if policy.files && clipboard.allows(direction) => {
                Disposition::Pass
            }
            kind::TEMP_DIRECTORY => Disposition::Drop,
            kind::FILE_CONTENTS_RESPONSE => pass_if(
                policy.files && clipboard.allows(direction),
                RefusalKind::ClipboardFiles,
                refusals,
            ),
            // They lock what the other side announced, and carry no content.
            kind::LOCK | kind::UNLOCK
                if policy.files
                    && clipboard.allows(direction.opposite())
                    && total <= MAX_CONTROL_MESSAGE =>
            {
                Disposition::Pass
            }
            kind::LOCK | kind::UNLOCK => Disposition::Drop,
            _ => pass_if(false, RefusalKind::Clipboard, refusals),
        })
    }

    /// Handles a reassembled message.
    pub(super) fn handle(
        &mut self,
        all: &[u8],
        direction: Direction,
        policy: Policy,
        refusals: &mut RefusalCounts,
    ) -> Result<MessageOutcome, RdpError> {
        let mut reader = Reader::new(all, "clipboard message");
        let (kind, flags, length) = (reader.u16()?, reader.u16()?, reader.u32()? as usize);
        let body = reader.take(length)?;
        match kind {
            kind::FORMAT_LIST => Ok(self.format_list(body, flags, direction, policy, refusals)),
            kind::FORMAT_DATA_REQUEST => Ok(self.data_request(body, direction, policy, refusals)),
            kind::FILE_CONTENTS_REQUEST => {
                let opposite = direction.opposite();
                if policy.files && policy.clipboard.allows(opposite) {
                    return Ok(MessageOutcome::Pass);
                }
                // The size is unknown: the content was never sent.
                refusals.count(RefusalKind::ClipboardFiles, opposite, 0);
                let stream = body.first_chunk::<4>().copied().unwrap_or_default();
                Ok(MessageOutcome::Reply(message(
                    kind::FILE_CONTENTS_RESPONSE,
                    RESPONSE_FAIL,
                    &stream,
                )))
            }
            kind::CAPABILITIES => self.capabilities(all, direction, policy),
            _ => Err(reader.malformed()),
        }
    }

    fn format_list(
        &mut self,
        body: &[u8],
        flags: u16,
        direction: Direction,
        policy: Policy,
        refusals: &mut RefusalCounts,
    ) -> MessageOutcome {
        let first = direction == Direction::Up && !self.initialized;
        self.initialized |= direction == Direction::Up;
        let accepted = || message(kind::FORMAT_LIST_RESPONSE, RESPONSE_OK, &[]);
        if !policy.clipboard.allows(direction) {
            if !body.is_empty() {
                refusals.count(RefusalKind::Clipboard, direction, 0);
            }
            // The server waits for the client's first list; an empty one is enough. Later ones
            // would clear the desktop's own clipboard.
            return if first {
                MessageOutcome::Replace(message(kind::FORMAT_LIST, 0, &[]))
            } else {
                MessageOutcome::Reply(accepted())
            };
        }
        if policy.files {
            return MessageOutcome::Pass;
        }
        let long = self.long_names == [true; 2];
        match formats::filter_formats(body, long, flags) {
            Ok(filtered) if filtered.file_formats.is_empty() => {
                self.file_formats[side_index(direction)].clear();
                MessageOutcome::Pass
            }
            Ok(filtered) => {
                refusals.count(RefusalKind::ClipboardFiles, direction, 0);
                self.file_formats[side_index(direction)] = filtered.file_formats;
                MessageOutcome::Replace(message(kind::FORMAT_LIST, flags, &filtered.kept))
            }
            // An invalid list is not forwarded; its sender gets a failure response.
            Err(_) => {
                refusals.count(RefusalKind::ClipboardFiles, direction, 0);
                MessageOutcome::Reply(message(kind::FORMAT_LIST_RESPONSE, RESPONSE_FAIL, &[]))
            }
        }
    }

    fn data_request(
        &self,
        body: &[u8],
        direction: Direction,
        policy: Policy,
        refusals: &mut RefusalCounts,
    ) -> MessageOutcome {
        let opposite = direction.opposite();
        let format = u32_at(body, 0);
        let refused = if !policy.clipboard.allows(opposite) || body.len() != 4 {
            RefusalKind::Clipboard
        } else if !policy.files
            && format.is_none_or(|id| {
                id == HDROP || self.file_formats[side_index(opposite)].contains(&id)
            })
        {
            RefusalKind::ClipboardFiles
        } else {
            return MessageOutcome::Pass;
        };
        refusals.count(refused, opposite, 0);
        MessageOutcome::Reply(message(kind::FORMAT_DATA_RESPONSE, RESPONSE_FAIL, &[]))
    }

    /// Reads whether a side supports long names, and removes its file capabilities where files are
    /// forbidden.
    fn capabilities(
        &mut self,
        all: &[u8],
        direction: Direction,
        policy: Policy,
    ) -> Result<MessageOutcome, RdpError> {
        const WHAT: &str = "clipboard capabilities";
        let malformed = RdpError::Malformed(WHAT);
        let mut edited = all.to_vec();
        let sets = u16_at(all, HEADER).ok_or(malformed)?;
        let mut at = HEADER + 4;
        for _ in 0..sets {
            let (set, length) = (
                u16_at(all, at).ok_or(malformed)?,
                usize::from(u16_at(all, at + 2).ok_or(malformed)?),
            );
            if length < 4 || at + length > all.len() {
                return Err(malformed);
            }
            // The general set: version, flags (2.2.2.1.1.1).
            if set == 1 {
                let flags = u32_at(all, at + 8).filter(|_| length >= 12).ok_or(malformed)?;
                self.long_names[side_index(direction)] = flags & LONG_NAMES != 0;
                if !policy.files {
                    write_at(&mut edited, at + 8, &(flags & !FILES).to_le_bytes(), WHAT)?;
                }
            }
            at += length;
        }
        Ok(if edited == all { MessageOutcome::Pass } else { MessageOutcome::Replace(edited) })
    }
}
