//! RDP (MS-RDPBCGR), as far as the gateway takes part in it. Section numbers below are those of
//! MS-RDPBCGR unless another document is named.
//!
//! - [`cleanpath`]: the browser's request for a connection.
//! - [`x224`]: the negotiation before TLS: the gateway's request and the server's response.
//! - [`info::Credential`], [`gcc::CoreEdits`]: what the gateway writes into the client's early
//!   PDUs.
//! - [`frame`]: PDU boundaries.
//! - [`input`]: which of a browser's PDUs its user caused.
//! - [`filter::Filter`]: everything after TLS, in both directions: applies the edits, then enforces
//!   a [`Policy`]. It reports [`refusal::Refusal`]s and the server's [`error_info::ErrorInfo`].
//!
//! Terms: a *static virtual channel* (2.2.6) is a named side channel the client requests when it
//! connects, such as `cliprdr` (the clipboard, MS-RDPECLIP), `rdpdr` (drives and devices,
//! MS-RDPEFS) and `drdynvc`, which carries *dynamic virtual channels* (MS-RDPEDYC). *Up* is from
//! the browser to the desktop, *down* the other way. *Fast path* (2.2.8.1.2, 2.2.9.1.2) is the
//! short framing of input and pictures, TPKT that of everything else.
//!
//! Nothing here panics, whatever the bytes are, and every length in the input is compared with a
//! limit before it is used.

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
pub mod input;
mod mcs;
mod negotiation_failure;
mod reader;
pub mod refusal;
mod server_pdus;
mod share;
pub mod x224;

pub use error::RdpError;

/// Direction of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the user's browser into the desktop.
    Up,
    /// From the desktop to the user's browser.
    Down,
}

impl Direction {
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// Allowed directions of the clipboard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clipboard {
    /// Neither.
    None,
    /// From the user's machine into the desktop only.
    In,
    /// From the desktop to the user's machine only.
    Out,
    /// Both ways.
    Both,
}

impl Clipboard {
    /// Whether content may pass in this direction.
    #[must_use]
    pub fn allows(self, direction: Direction) -> bool {
        match self {
            Self::None => false,
            Self::In => direction == Direction::Up,
            Self::Out => direction == Direction::Down,
            Self::Both => true,
        }
    }
}

/// Policy of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    pub clipboard: Clipboard,
    /// Whether files and devices may be redirected: `rdpdr`, and files on the clipboard.
    pub files: bool,
    /// Whether input is refused.
    pub read_only: bool,
}

impl Policy {
    /// Whether nothing is forbidden.
    #[must_use]
    pub fn is_open(self) -> bool {
        self.clipboard == Clipboard::Both && self.files && !self.read_only
    }
}
