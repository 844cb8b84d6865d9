//! Why a server says it ends a connection: the Set Error Info PDU (2.2.5.1), which comes before the
//! end, and says so once more with `NONE` when all is well.

/// What the codes come to for whoever sits in front of it (2.2.5.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorInfo {
    /// The user signed out, or disconnected from within.
    SignedOut,
    /// An administrator of the server disconnected the user, or signed them out.
    DisconnectedByAdmin,
    /// Nobody did anything for so long as the server allows.
    IdleTimeout,
    /// The time that the server gives a session, or a login, was over.
    TimeLimit,
    /// Another connection took the session over.
    TakenOver,
    /// The server has no memory left.
    OutOfMemory,
    /// The server takes no connection, from anybody or from here.
    Denied,
    /// The account may not log in remotely.
    NotGranted,
    /// The server takes no stored credential from this account.
    FreshCredentialsRequired,
    /// Something that makes up a desktop there failed.
    Crashed,
    /// The server shuts down or starts again.
    ShuttingDown,
    /// The server has no licence for one more, or cannot ask for one.
    Licence,
    /// A broker that was to find the desktop did not.
    Broker,
    /// The server does not like what the client sent.
    Protocol,
    /// Another code.
    Other(u32),
}

impl ErrorInfo {
    /// From the PDU's code; `None` when it says that nothing is wrong.
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

    /// Its word in the audit log, and for the page.
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
