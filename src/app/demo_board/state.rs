//! State of the board: notes, and the users with an open page.

use crate::domain::sync::lock;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::watch;

/// Most notes, and the longest text of one, characters.
const NOTES_MAX: usize = 200;
const TEXT_MAX: usize = 400;
/// Colours a note can have.
const COLOURS: [&str; 5] = ["yellow", "green", "blue", "pink", "violet"];

/// A sticky note.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct StickyNote {
    #[serde(default)]
    id: u64,
    text: String,
    colour: String,
    /// Position, in thousandths of the board.
    x: u16,
    y: u16,
    #[serde(default)]
    by: String,
}

impl StickyNote {
    fn sanitized(mut self) -> Self {
        self.text =
            self.text.chars().filter(|c| !c.is_control() || *c == '\n').take(TEXT_MAX).collect();
        self.by = self.by.chars().filter(|c| !c.is_control()).take(80).collect();
        if !COLOURS.contains(&self.colour.as_str()) {
            COLOURS[0].clone_into(&mut self.colour);
        }
        (self.x, self.y) = (self.x.min(1000), self.y.min(1000));
        self
    }
}

/// A message from a browser.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(super) enum ClientCommand {
    Add { text: String, colour: String, x: u16, y: u16 },
    Move { id: u64, x: u16, y: u16 },
    Write { id: u64, text: String },
    Remove { id: u64 },
}

#[derive(Default)]
pub(super) struct BoardState {
    pub(super) notes: Vec<StickyNote>,
    last: u64,
    /// Users with an open page: one entry per page.
    present: Vec<(u64, String)>,
}

impl BoardState {
    fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn add(&mut self, note: StickyNote) {
        if self.notes.len() < NOTES_MAX {
            let id = self.next_id();
            self.notes.push(StickyNote { id, ..note.sanitized() });
        }
    }

    pub(super) fn apply(&mut self, command: ClientCommand, by: &str) {
        match command {
            ClientCommand::Add { text, colour, x, y } => {
                self.add(StickyNote { id: 0, text, colour, x, y, by: by.to_owned() })
            }
            ClientCommand::Move { id, x, y } => self.change(id, |note| (note.x, note.y) = (x, y)),
            ClientCommand::Write { id, text } => self.change(id, |note| note.text = text),
            ClientCommand::Remove { id } => self.notes.retain(|note| note.id != id),
        }
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut StickyNote)) {
        if let Some(note) = self.notes.iter_mut().find(|note| note.id == id) {
            change(note);
            *note = note.clone().sanitized();
        }
    }
}

/// The board, and a counter of its changes that pages subscribe to.
pub(super) struct Board {
    state: Mutex<BoardState>,
    pub(super) changed: watch::Sender<u64>,
}

impl Board {
    pub(super) fn new() -> Self {
        let board = Self { state: Mutex::default(), changed: watch::Sender::new(0) };
        let initial = [
            (
                "This board is a web application.\nIt runs behind the gateway, and only your session leads to it.",
                "yellow",
                60,
                90,
            ),
            (
                "Open it in a second browser as somebody else: notes move for both.",
                "green",
                390,
                150,
            ),
            ("Drag me.", "blue", 700, 80),
            ("Save the board as a file, and load it again.", "pink", 560, 480),
        ];
        for (text, colour, x, y) in initial {
            board.state().add(StickyNote {
                id: 0,
                text: text.to_owned(),
                colour: colour.to_owned(),
                x,
                y,
                by: "Portcullis".to_owned(),
            });
        }
        board
    }

    pub(super) fn state(&self) -> MutexGuard<'_, BoardState> {
        lock(&self.state)
    }

    pub(super) fn notify_changed(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(super) fn to_json(&self) -> String {
        let state = self.state();
        let here: Vec<&String> = state.present.iter().map(|(_, who)| who).collect();
        json!({"notes": state.notes, "here": here}).to_string()
    }
}

/// An open page; its user leaves the board when it is dropped.
pub(super) struct Presence<'a> {
    board: &'a Board,
    id: u64,
}

impl<'a> Presence<'a> {
    pub(super) fn enter(board: &'a Board, who: &str) -> Self {
        let id = {
            let mut state = board.state();
            let number = state.next_id();
            state.present.push((number, who.to_owned()));
            number
        };
        board.notify_changed();
        Self { board, id }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.board.state().present.retain(|(number, _)| *number != self.id);
        self.board.notify_changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_limited() {
        let board = Board::new();
        let mut state = board.state();
        let command = |text: &str| ClientCommand::Add {
            text: text.to_owned(),
            colour: "<b>".into(),
            x: 9000,
            y: 1,
        };
        state.apply(command(&format!("a\u{7}b\n{}", "x".repeat(1000))), "Ada");
        let note = state.notes.last().unwrap().clone();
        assert_eq!(
            (note.text.chars().count(), note.colour.as_str(), note.x, note.by.as_str()),
            (TEXT_MAX, "yellow", 1000, "Ada")
        );
        assert!(note.text.starts_with("ab\nx"));
        state.apply(ClientCommand::Move { id: note.id, x: 5, y: 6 }, "Sam");
        state.apply(ClientCommand::Write { id: note.id, text: "new".into() }, "Sam");
        let note = state.notes.last().unwrap().clone();
        assert_eq!((note.text.as_str(), note.x, note.y, note.by.as_str()), ("new", 5, 6, "Ada"));
        state.apply(ClientCommand::Remove { id: note.id }, "Sam");
        assert!(!state.notes.iter().any(|n| n.id == note.id));
        (0..500).for_each(|_| state.apply(command("x"), "Ada"));
        assert_eq!(state.notes.len(), NOTES_MAX);
    }

    #[test]
    fn a_user_leaves_with_the_page() {
        let board = Board::new();
        let presence = Presence::enter(&board, "Ada");
        assert!(board.to_json().contains("\"here\":[\"Ada\"]"));
        drop(presence);
        assert!(board.to_json().contains("\"here\":[]"));
    }
}
