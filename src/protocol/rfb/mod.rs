//! RFB (RFC 6143), as far as the gateway takes part in it: the two handshakes, up to the byte where
//! both sides can be joined.
//!
//! - [`client::ClientHandshake`]: the gateway is the client of a desktop and proves the workspace's
//!   password to it.
//! - [`server::ServerHandshake`]: the gateway is the server of a browser that has proved itself by
//!   other means; it is offered security type None.
//!
//! - [`init`]: what a desktop says of itself when both are over.
//! - [`filter`]: what may pass from then on.
//!
//! The browser's ends behind its `ClientInit` (section 7.3.1), the desktop's before it: whether
//! other clients are put out is the lease's to say, and the gateway sends a `ClientInit` of its
//! own.
//!
//! Both are resumable: `advance` is given all bytes that are not yet consumed, says how many it has
//! used up, and appends what must be sent to `reply`. Too few bytes is not an error: nothing of an
//! incomplete message is consumed, and nothing is lost. After an error, or after `done`, a machine
//! is spent.
//!
//! Nothing here panics, whatever the bytes are; and no length that the other side names is believed
//! before it is compared with a limit.

mod auth;
pub mod client;
pub mod filter;
pub mod init;
pub mod server;

use std::fmt;

/// `"RFB xxx.yyy\n"` (section 7.1.1).
pub const VERSION_LEN: usize = 12;
/// What the gateway says first to a browser, and answers to a desktop that can do it.
pub const VERSION_3_8: &[u8; VERSION_LEN] = b"RFB 003.008\n";
/// Longest reason a desktop may give for a refusal. A longer one is not waited for.
pub const MAX_REASON: usize = 4096;
/// Most bytes a machine ever needs at once; a driver that holds this many makes progress or gets an
/// error.
pub const MAX_PENDING: usize = 4 + MAX_REASON;

/// Security types (section 7.1.2) the gateway knows.
mod security {
    /// A list of types follows none: a reason does.
    pub(super) const INVALID: u8 = 0;
    /// No proof is asked for.
    pub(super) const NONE: u8 = 1;
    /// A challenge is encrypted with the password.
    pub(super) const VNC_AUTH: u8 = 2;
    /// TLS, and one of [`super::vencrypt`] inside.
    pub(super) const VENCRYPT: u8 = 19;
}

/// Security types of VeNCrypt 0.2 the gateway knows.
mod vencrypt {
    pub(super) const VERSION: [u8; 2] = [0, 2];
    pub(super) const TLS_NONE: u32 = 257;
    pub(super) const TLS_VNC: u32 = 258;
    pub(super) const TLS_PLAIN: u32 = 259;
    pub(super) const X509_NONE: u32 = 260;
    pub(super) const X509_VNC: u32 = 261;
    pub(super) const X509_PLAIN: u32 = 262;
}

/// Which TLS a desktop speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// With its certificate.
    X509,
    /// With a key that nobody vouches for (anonymous Diffie-Hellman): whoever listens hears
    /// nothing, whoever stands between hears everything.
    Anonymous,
}

/// What an `advance` did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes of the input that are used up. Give the rest again, with more behind it.
    pub consumed: usize,
    /// The handshake is over; what was not consumed is not ours to read.
    pub done: bool,
    /// TLS begins here, and the rest of the handshake is inside it. Nothing may be left of the
    /// input.
    pub start_tls: Option<Tls>,
}

/// Why a handshake failed. Texts are for logs and for the audit log; [`RfbError::word`] for what
/// counts them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RfbError {
    /// The first bytes are not those of RFB.
    #[error("it does not speak RFB")]
    NotRfb,
    /// It speaks a version of RFB that the gateway does not.
    #[error("it speaks RFB {major}.{minor}, which is not supported")]
    Version {
        /// Before the point.
        major: u16,
        /// Behind it.
        minor: u16,
    },
    /// It refuses to talk (too many clients, a blocked address).
    #[error("it refused the connection{0}")]
    Refused(Reason),
    /// It offers no security type that fits the lease: a password must be proved when there is one,
    /// and cannot be when there is none.
    #[error(
        "it offers no security type that fits (password expected: {password}, offered: {offered:?})"
    )]
    NoAcceptableSecurityType {
        /// Whether the lease has a password.
        password: bool,
        /// What it offers.
        offered: Vec<u32>,
    },
    /// It shows no certificate, but one is expected.
    #[error("it offers no security type with a certificate, but one is expected")]
    NoCertificate,
    /// No browser can hold its picture.
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
    /// It does not do the type of VeNCrypt that was chosen of those it offers.
    #[error("it declined the security type {0} of VeNCrypt, which it had offered")]
    Declined(u32),
    /// A field has a value that the protocol does not know.
    #[error("its {what} has the impossible value {value}")]
    InvalidValue {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// It closed before the handshake was over.
    #[error("it closed while {0} was due")]
    Closed(&'static str),
    /// The machine was used after its end.
    #[error("the handshake is already over")]
    AlreadyFinished,
}

impl RfbError {
    /// Its word in the audit log.
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

/// What the other side gave as its reason, made safe to print: cut to 200 characters, without
/// control characters; empty when it gave none. Displays with a leading `": "` when there is one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reason(String);

impl Reason {
    fn from_bytes(bytes: &[u8]) -> Self {
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        Self(
            String::from_utf8_lossy(bytes)
                .chars()
                .take(200)
                .map(clean)
                .collect::<String>()
                .trim()
                .to_owned(),
        )
    }

    fn too_many() -> Self {
        Self("too many attempts".to_owned())
    }

    /// Whether it says that nobody may try for a while. Servers say so in words only ("Too many
    /// security failures" is TigerVNC's).
    #[must_use]
    pub fn is_lockout(&self) -> bool {
        let words = self.0.to_ascii_lowercase();
        words.contains("too many") && !words.contains("connections")
    }

    /// The text.
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

/// Reads whole fields off the front of what has arrived. `None` means "not all there yet", and
/// takes nothing.
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

/// What a step of a machine came to.
enum Step {
    /// A message was read; look for the next.
    Next,
    /// The next message is not all there.
    Wait,
    /// TLS begins.
    StartTls(Tls),
    /// That was the last.
    Done,
}

/// Steps through what has arrived until a message is not all there, the last was read, or one is
/// refused.
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

/// Reads `"RFB xxx.yyy\n"`. Refuses at the first byte that cannot be part of it, so that nobody
/// waits for the rest of nonsense.
fn version(input: &mut Input<'_>) -> Result<Option<(u16, u16)>, RfbError> {
    // `0` stands for any digit.
    const SHAPE: &[u8; VERSION_LEN] = b"RFB 000.000\n";
    let fits =
        |(&got, &want): (&u8, &u8)| if want == b'0' { got.is_ascii_digit() } else { got == want };
    if !input.rest.iter().zip(SHAPE).all(fits) {
        return Err(RfbError::NotRfb);
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    Ok(input.array::<VERSION_LEN>().map(|text| (number(&text[4..7]), number(&text[8..11]))))
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

    #[test]
    fn a_version_is_refused_at_its_first_wrong_byte() {
        for bad in [&b"H"[..], b"RFB 003,", b"RFB 003.008\r", b"SSH-2.0-", b"RFB 00x", b"\0"] {
            assert_eq!(version(&mut Input::new(bad)), Err(RfbError::NotRfb), "{bad:?}");
        }
        for part in [&b""[..], b"R", b"RFB 003.00", b"RFB 003.008"] {
            assert_eq!(version(&mut Input::new(part)), Ok(None), "{part:?}");
        }
        assert_eq!(version(&mut Input::new(b"RFB 003.889\nmore")), Ok(Some((3, 889))));
    }
}
