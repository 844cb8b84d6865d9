//! Errors of RDP: one variant per cause.

use super::negotiation_failure::NegotiationFailure;

/// Why a connection cannot continue. The texts are for logs; [`RdpError::reason_code`] is for the
/// audit log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RdpError {
    /// No PDU begins with this byte.
    #[error("it does not speak RDP (first byte {first:#04x})")]
    NotRdp { first: u8 },
    /// A PDU or a message is longer than its limit.
    #[error("its {what} has {length} bytes; {limit} are the most")]
    TooLong {
        what: &'static str,
        /// In bytes.
        length: usize,
        /// In bytes.
        limit: usize,
    },
    /// A field has an invalid length or value.
    #[error("its {0} is malformed")]
    Malformed(&'static str),
    /// A PDU arrived out of order.
    #[error("its {0} came out of order")]
    Unexpected(&'static str),
    /// The server refused the negotiation.
    #[error("the server refused: {0}")]
    Refused(NegotiationFailure),
    /// The server supports only RDP's own encryption, which is broken.
    #[error("the server offers no TLS")]
    NoTls,
    /// The client did not request TLS, or the server selected a protocol that was not requested.
    #[error("it chose the security protocols {0:#x}, which were not offered")]
    Protocol(u32),
    /// RDP's own encryption was enabled inside TLS: nothing could be inspected.
    #[error("it encrypts inside TLS, so that policy could not be enforced")]
    Encrypted,
    /// Data of an inspected channel is compressed although compression was not negotiated.
    #[error("it compresses the channel {0}, so that policy could not be enforced")]
    Compressed(&'static str),
    /// The server announces a desktop size that no screen has.
    #[error("its desktop of {width} x {height} is not between 1 x 1 and 8192 x 8192")]
    DesktopSize {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// The server announces an invalid monitor layout.
    #[error("its monitor layout cannot be")]
    MonitorLayout,
    /// The server redirects the client to another server, which no lease names.
    #[error("the server redirects to another one")]
    Redirected,
    /// A part of the workspace's credential is too long for the protocol.
    #[error("the credential's {0} is too long for RDP")]
    CredentialTooLong(&'static str),
    /// One side sends refused requests and does not read the replies.
    #[error("it reads no answers to what it asks for")]
    TooManyPendingReplies,
    /// The filter was used after an error.
    #[error("the connection has already failed")]
    AlreadyFailed,
}

impl RdpError {
    /// Reason code of the audit log.
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
