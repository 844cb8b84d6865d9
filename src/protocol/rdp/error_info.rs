//! Set Error Info PDU (2.2.5.1): why a server ends a connection. It precedes the end; `NONE`
//! withdraws it.

/// Meaning of the codes (2.2.5.1.1) for a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorInfo {
    /// The user signed out, or disconnected from within.
    SignedOut,
    /// An administrator of the server disconnected the user, or signed them out.
    DisconnectedByAdmin,
    /// The server's idle timeout expired.
    IdleTimeout,
    /// The server's time limit for a session or a logon expired.
    TimeLimit,
    /// Another connection took the session over.
    TakenOver,
    OutOfMemory,
    /// The server refuses connections, from anybody or from here.
    Denied,
    /// The account may not log in remotely.
    NotGranted,
    /// The server accepts no saved credential for this account.
    FreshCredentialsRequired,
    /// A component of the desktop failed.
    Crashed,
    /// The server shuts down or restarts.
    ShuttingDown,
    /// Licensing failed.
    Licence,
    /// A connection broker did not find the desktop.
    Broker,
    /// The server reports a protocol error of the client.
    Protocol,
    /// Another code.
    Other(u32),
}

impl ErrorInfo {
    /// From the PDU's code; `None` for "no error".
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => return None,
            0x01 | 0x02 => Self::DisconnectedByAdmin,
            0x03 => Self::IdleTimeout,
            0x04 => Self::TimeLimit,
            0x05 => Self::TakenOver,
            0x06 => Self::OutOfMemory,
            0x07 => Self::Denied,
            0x09 => Self::NotGranted,
            0x0a => Self::FreshCredentialsRequired,
            0x0b | 0x0c => Self::SignedOut,
            0x0f..=0x12 | 0x17 | 0x18 => Self::Crashed,
            0x19 | 0x1a => Self::ShuttingDown,
            0x100..=0x10a => Self::Licence,
            0x400..=0x412 => Self::Broker,
            0x10c9..=0x1195 => Self::Protocol,
            other => Self::Other(other),
        })
    }

    /// Reason code of the audit log and of the close frame.
    #[must_use]
    pub fn reason_code(self) -> &'static str {
        match self {
            Self::SignedOut => "desktop_signed_out",
            Self::DisconnectedByAdmin => "desktop_by_admin",
            Self::IdleTimeout => "desktop_idle_timeout",
            Self::TimeLimit => "desktop_time_limit",
            Self::TakenOver => "desktop_taken_over",
            Self::OutOfMemory => "desktop_out_of_memory",
            Self::Denied => "desktop_denied",
            Self::NotGranted => "logon_not_granted",
            Self::FreshCredentialsRequired => "credential_must_be_typed",
            Self::Crashed => "desktop_crashed",
            Self::ShuttingDown => "desktop_going_down",
            Self::Licence => "desktop_licence",
            Self::Broker => "desktop_broker",
            Self::Protocol => "desktop_protocol",
            Self::Other(_) => "desktop_ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_meaning_and_none_is_no_error() {
        assert_eq!(ErrorInfo::from_code(0), None);
        for (code, word) in [
            (0x01, "desktop_by_admin"),
            (0x02, "desktop_by_admin"),
            (0x03, "desktop_idle_timeout"),
            (0x04, "desktop_time_limit"),
            (0x05, "desktop_taken_over"),
            (0x06, "desktop_out_of_memory"),
            (0x07, "desktop_denied"),
            (0x09, "logon_not_granted"),
            (0x0a, "credential_must_be_typed"),
            (0x0b, "desktop_signed_out"),
            (0x0c, "desktop_signed_out"),
            (0x10, "desktop_crashed"),
            (0x17, "desktop_crashed"),
            (0x19, "desktop_going_down"),
            (0x1a, "desktop_going_down"),
            (0x100, "desktop_licence"),
            (0x10a, "desktop_licence"),
            (0x400, "desktop_broker"),
            (0x10d4, "desktop_protocol"),
            (0x1195, "desktop_protocol"),
            (0x08, "desktop_ended"),
            (u32::MAX, "desktop_ended"),
        ] {
            assert_eq!(
                ErrorInfo::from_code(code).map(ErrorInfo::reason_code),
                Some(word),
                "{code:#x}"
            );
        }
    }
}
