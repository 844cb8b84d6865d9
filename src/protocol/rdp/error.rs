//! What can be wrong with RDP bytes: one variant per cause.

use super::x224::NegotiationFailure;

/// Why a connection cannot go on. Texts are for logs and for the audit log; [`RdpError::word`] for
/// what counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RdpError {
    /// The first byte of a PDU is none that a PDU begins with.
    #[error("it does not speak RDP (first byte {first:#04x})")]
    NotRdp {
        /// The byte.
        first: u8,
    },
    /// A PDU or a message is longer than what is taken.
    #[error("its {what} has {length} bytes; {limit} are the most")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// As long as it says it is, in bytes.
        length: usize,
        /// As long as it may be, in bytes.
        limit: usize,
    },
    /// A field has a length or a value that cannot be.
    #[error("its {0} is malformed")]
    Malformed(&'static str),
    /// A PDU came when none of its kind was due.
    #[error("its {0} came out of order")]
    Unexpected(&'static str),
    /// The server refused the negotiation, and said why.
    #[error("the server refused: {0}")]
    Refused(NegotiationFailure),
    /// The server knows only RDP's own encryption, which is broken.
    #[error("the server offers no TLS")]
    NoTls,
    /// The client did not ask for TLS, or the server chose what it was not asked for.
    #[error("it chose the security protocols {0:#x}, which were not offered")]
    Protocol(u32),
    /// RDP's own encryption was switched on inside TLS: nothing could be checked.
    #[error("it encrypts inside TLS, so that policy could not be enforced")]
    Encrypted,
    /// Data of a channel that policy is enforced on is compressed although compression was not
    /// agreed on.
    #[error("it compresses the channel {0}, so that policy could not be enforced")]
    Compressed(&'static str),
    /// The server wants a desktop of a size no screen has.
    #[error("its desktop of {width} x {height} is not between 1 x 1 and 8192 x 8192")]
    DesktopSize {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The server describes monitors that cannot be.
    #[error("its monitor layout cannot be")]
    MonitorLayout,
    /// The server sends the client to another one, which no lease names.
    #[error("the server redirects to another one")]
    Redirected,
    /// A part of the workspace's credential does not fit into the protocol.
    #[error("the credential's {0} is too long for RDP")]
    CredentialTooLong(&'static str),
    /// One side asks for so much that is refused, without reading the refusals, that they cannot be
    /// kept.
    #[error("it reads no answers to what it asks for")]
    TooManyPendingReplies,
    /// The filter was used after an error.
    #[error("the connection has already failed")]
    AlreadyFailed,
}

impl RdpError {
    /// Its word in the audit log.
    #[must_use]
    pub fn reason_code(&self) -> &'static str {
        match self {
            Self::NotRdp { .. } => "not_rdp",
            Self::TooLong { .. } => "rdp_too_long",
            Self::Malformed(_) => "rdp_malformed",
            Self::Unexpected(_) => "rdp_unexpected",
            Self::Refused(failure) => failure.reason_code(),
            Self::NoTls => "rdp_no_tls",
            Self::Protocol(_) => "rdp_protocol",
            Self::Encrypted => "rdp_encrypted",
            Self::Compressed(_) => "rdp_compressed",
            Self::DesktopSize { .. } => "rdp_desktop_size",
            Self::MonitorLayout => "rdp_monitor_layout",
            Self::Redirected => "rdp_redirected",
            Self::CredentialTooLong(_) => "rdp_credential_too_long",
            Self::TooManyPendingReplies => "rdp_flood",
            Self::AlreadyFailed => "rdp_spent",
        }
    }
}
