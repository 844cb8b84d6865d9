//! RDP (MS-RDPBCGR), as far as the gateway takes part in it. Section numbers below are those of
//! MS-RDPBCGR unless another document is named.
//!
//! - [`cleanpath`]: how a browser asks for a connection.
//! - [`x224`]: the negotiation before TLS: what the gateway asks of the server, and what the
//!   server's answer means.
//! - [`info::Credential`], [`gcc::CoreEdits`]: what the gateway writes into the client's early
//!   PDUs.
//! - [`frame`]: where a PDU ends.
//! - [`filter::Filter`]: everything after TLS, both ways: makes the edits, then enforces a
//!   [`Policy`]; [`refusal::Refusal`] is what it tells of it, and [`error_info::ErrorInfo`] what
//!   the server said of its end.
//!
//! Terms: a *static virtual channel* (2.2.6) is a named side channel the client asks for when it
//! connects, such as `cliprdr` (the clipboard, MS-RDPECLIP), `rdpdr` (drives and devices,
//! MS-RDPEFS) and `drdynvc`, which carries *dynamic virtual channels* (MS-RDPEDYC). *Up* is from
//! the browser to the desktop, *down* the other way. *Fast path* (2.2.8.1.2, 2.2.9.1.2) is the
//! short framing of input and pictures, TPKT that of all else.
//!
//! Nothing here panics, whatever the bytes are, and no length that the other side names is believed
//! before it is compared with a limit.

pub mod channels;
mod chunk;
pub mod cleanpath;
mod client_pdus;
mod clipboard;
mod connection;
mod direction_filter;
mod dynamic;
mod error;
pub mod error_info;
pub mod filter;
mod formats;
pub mod frame;
pub mod gcc;
pub mod info;
mod mcs;
mod reader;
pub mod refusal;
mod server_pdus;
mod share;
pub mod x224;

pub use error::RdpError;

/// Which way bytes travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the user's browser into the desktop.
    Up,
    /// From the desktop to the user's browser.
    Down,
}

impl Direction {
    /// The way back.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// Which ways a clipboard works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clipboard {
    /// It does not.
    None,
    /// From the user's machine into the desktop only.
    In,
    /// From the desktop to the user's machine only.
    Out,
    /// Both ways.
    Both,
}

impl Clipboard {
    /// Whether content may travel this way.
    #[must_use]
    pub fn allows(self, way: Direction) -> bool {
        match self {
            Self::None => false,
            Self::In => way == Direction::Up,
            Self::Out => way == Direction::Down,
            Self::Both => true,
        }
    }
}

/// What policy allows on one session's stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Which ways the clipboard works.
    pub clipboard: Clipboard,
    /// Whether files and devices may be redirected: `rdpdr`, and files on the clipboard.
    pub files: bool,
    /// Whether the user may look and not touch.
    pub read_only: bool,
}

impl Policy {
    /// Whether nothing is forbidden.
    #[must_use]
    pub fn is_open(self) -> bool {
        self.clipboard == Clipboard::Both && self.files && !self.read_only
    }
}
