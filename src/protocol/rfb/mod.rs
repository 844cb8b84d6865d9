//! RFB (RFC 6143), as far as the gateway takes part in it: the handshakes with both sides, and the
//! filter of the stream after that.
//!
//! - [`client::ClientHandshake`]: the gateway is the client of a desktop and authenticates with the
//!   workspace's password.
//! - [`server::ServerHandshake`]: the gateway is the server of a browser that was authenticated by
//!   other means; it offers security type None.
//!
//! - [`init`]: `ServerInit`, after both handshakes.
//! - [`filter`]: what may pass from then on.
//! - [`input`]: which of a browser's messages its user caused.
//!
//! The handshake with the browser ends after its `ClientInit` (section 7.3.1), the one with the
//! desktop before it: the lease decides whether other clients are disconnected, and the gateway
//! sends its own `ClientInit`.
//!
//! Both are resumable: `advance` is given all bytes that are not consumed yet, returns how many it
//! consumed, and appends what must be sent to `reply`. Too few bytes are no error: nothing of an
//! incomplete message is consumed. After an error, or after `done`, a handshake is finished.
//!
//! Nothing here panics, whatever the bytes are, and every length in the input is compared with a
//! limit before it is used.

mod auth;
pub mod client;
pub mod filter;
pub mod init;
pub mod input;
mod refusal;
mod security;
pub mod server;
mod version;

use std::fmt;

/// `"RFB xxx.yyy\n"` (section 7.1.1).
pub const VERSION_LEN: usize = 12;
/// The gateway's version: sent first to a browser, and in response to a desktop that supports it.
pub const VERSION_3_8: &[u8; VERSION_LEN] = b"RFB 003.008\n";
/// Longest reason of a refusal. A longer one is not read.
pub const MAX_REASON: usize = 4096;
/// Most bytes a handshake needs at once; with so many it makes progress or fails.
pub const MAX_PENDING: usize = 4 + MAX_REASON;

/// TLS variant of a desktop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// With a certificate.
    X509,
    /// Anonymous Diffie-Hellman: protects against passive listeners, not against a man in the
    /// middle.
    Anonymous,
}

/// Result of `advance`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Consumed bytes of the input. Pass the rest again, with more appended.
    pub consumed: usize,
    /// The handshake is finished; the rest of the input belongs to the stream.
    pub done: bool,
    /// TLS begins here, with the rest of the handshake inside. No input may be left.
    pub start_tls: Option<Tls>,
}

/// Why a handshake failed. The texts are for logs; [`RfbError::reason_code`] is for the audit log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RfbError {
    /// The first bytes are not RFB.
    #[error("it does not speak RFB")]
    NotRfb,
    /// Its version is not supported.
    #[error("it speaks RFB {major}.{minor}, which is not supported")]
    Version { major: u16, minor: u16 },
    /// It refused the connection (too many clients, a blocked address).
    #[error("it refused the connection{0}")]
    Refused(Reason),
    /// It offers no acceptable security type: a password must be proved when there is one, and
    /// cannot be when there is none.
    #[error(
        "it offers no security type that fits (password expected: {password}, offered: {offered:?})"
    )]
    NoAcceptableSecurityType {
        /// Whether the lease has a password.
        password: bool,
        /// Offered types.
        offered: Vec<u32>,
    },
    /// No offered type has a certificate, but one is expected.
    #[error("it offers no security type with a certificate, but one is expected")]
    NoCertificate,
    /// Its picture is too large for a browser.
    #[error("its picture of {width} x {height} is too large")]
    TooLarge {
        /// In pixels.
        width: u16,
        /// In pixels.
        height: u16,
    },
    /// It did not accept the password.
    #[error("it did not accept the password{0}")]
    AuthenticationFailed(Reason),
    /// It rejected the VeNCrypt subtype that it had offered.
    #[error("it declined the security type {0} of VeNCrypt, which it had offered")]
    Declined(u32),
    /// A field has an invalid value.
    #[error("its {what} has the impossible value {value}")]
    InvalidValue { what: &'static str, value: u32 },
    /// It closed the connection during the handshake.
    #[error("it closed while {0} was due")]
    Closed(&'static str),
    /// The handshake was used after its end.
    #[error("the handshake is already over")]
    AlreadyFinished,
}

impl RfbError {
    /// Reason code of the audit log.
    #[must_use]
    pub fn reason_code(&self) -> &'static str {
        match self {
            Self::NotRfb => "not_rfb",
            Self::Version { .. } => "rfb_version",
            Self::Refused(_) => "rfb_refused",
            Self::NoAcceptableSecurityType { .. } => "rfb_no_security",
            Self::NoCertificate => "certificate_missing",
            Self::TooLarge { .. } => "rfb_too_large",
            Self::AuthenticationFailed(reason) if reason.is_lockout() => "rfb_locked",
            Self::AuthenticationFailed(_) => "rfb_denied",
            Self::Declined(_) => "rfb_declined",
            Self::InvalidValue { .. } => "rfb_nonsense",
            Self::Closed(_) => "rfb_closed",
            Self::AlreadyFinished => "rfb_spent",
        }
    }
}

/// The other side's reason, safe to print: at most 200 characters, without control characters;
/// empty when there is none. Displays with a leading `": "` when there is one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reason(String);

impl Reason {
    fn from_bytes(bytes: &[u8]) -> Self {
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        Self(
            String::from_utf8_lossy(bytes)
                .chars()
                .take(200)
                .map(printable)
                .collect::<String>()
                .trim()
                .to_owned(),
        )
    }

    fn too_many() -> Self {
        Self("too many attempts".to_owned())
    }

    /// Whether it announces a temporary lockout. Servers say so in text only ("Too many security
    /// failures" is TigerVNC's).
    #[must_use]
    pub fn is_lockout(&self) -> bool {
        let words = self.0.to_ascii_lowercase();
        words.contains("too many") && !words.contains("connections")
    }

    /// Whether it concerns the credential. RFB has one result for every refusal (section 7.1.3), so
    /// only the text tells a wrong password from a person who declined, or who is being asked.
    fn is_about_credential(&self) -> bool {
        const WORDS: &[&str] = &[
            "auth",
            "passw",
            "credential",
            "login",
            "log in",
            "logon",
            "sign in",
            "user name",
            "username",
            "access denied",
            "access is denied",
            "incorrect",
            "too many",
        ];
        let text = self.0.to_lowercase();
        text.is_empty() || WORDS.iter().any(|word| text.contains(word))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// Reads complete fields from the front of the input. `None`: the field is incomplete, and nothing
/// is consumed.
struct Input<'a> {
    rest: &'a [u8],
    consumed: usize,
}

impl<'a> Input<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, consumed: 0 }
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        self.consumed += n;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.rest.first_chunk::<N>()?;
        self.take(N).map(|_| bytes)
    }

    /// A byte count, then that many bytes.
    fn list_u8(&mut self) -> Option<&'a [u8]> {
        let count = usize::from(*self.rest.first()?);
        Some(self.take(1 + count)?.split_at(1).1)
    }

    /// A byte count of numbers, then that many of 4 bytes each.
    fn list_u32(&mut self) -> Option<&'a [u8]> {
        let count = usize::from(*self.rest.first()?);
        Some(self.take(1 + 4 * count)?.split_at(1).1)
    }

    fn peek_u32(&self) -> Option<u32> {
        self.rest.first_chunk().copied().map(u32::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

/// Result of one step of a handshake.
enum Step {
    /// A message was processed; try the next.
    Next,
    /// The next message is incomplete.
    Wait,
    /// TLS begins.
    StartTls(Tls),
    /// The handshake is finished.
    Done,
}

/// Runs steps until a message is incomplete, the handshake is finished, or it fails.
fn drive(
    bytes: &[u8],
    mut step: impl FnMut(&mut Input<'_>) -> Result<Step, RfbError>,
) -> Result<Progress, RfbError> {
    let mut input = Input::new(bytes);
    loop {
        match step(&mut input)? {
            Step::Next => {}
            Step::Wait => {
                return Ok(Progress { consumed: input.consumed, done: false, start_tls: None });
            }
            Step::StartTls(tls) => {
                return Ok(Progress {
                    consumed: input.consumed,
                    done: false,
                    start_tls: Some(tls),
                });
            }
            Step::Done => {
                return Ok(Progress { consumed: input.consumed, done: true, start_tls: None });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_safe_to_print() {
        assert_eq!(
            Reason::from_bytes(b" Too many\x1b[31m\nfailures \xff\0").as_str(),
            "Too many [31m failures \u{fffd}"
        );
        assert_eq!(Reason::from_bytes(&[b'x'; 4096]).as_str().len(), 200);
        assert_eq!(
            RfbError::AuthenticationFailed(Reason::default()).to_string(),
            "it did not accept the password"
        );
        assert_eq!(
            RfbError::Refused(Reason::from_bytes(b"busy")).to_string(),
            "it refused the connection: busy"
        );
    }
}
