//! The gateway as the client of a desktop (section 7.1, appendix A for the older versions).
//!
//! ```text
//!            3.3:  u32 type ──────────┐
//! Version ─┤                          ├─ None ─(3.8: Result)──────────> done, before ClientInit
//!            3.7+: list, choice ──────┤
//!                                     └─ VncAuth: Challenge ─ Result ─> done
//! ```
//!
//! Which security type is acceptable is decided by the lease, not by the desktop: with a password, only VncAuth, so that a server that is not ours
//! cannot wave us through; without one, only None.

use super::auth::{CHALLENGE_LEN, Key};
use super::{Input, MAX_REASON, Progress, Reason, RfbError, Step, VERSION_3_8, drive, security, version};

/// How the desktop talks, after the lower of both versions was agreed on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Version {
    V3_3,
    V3_7,
    V3_8,
}

impl Version {
    /// What to speak with a server of version `major.minor`. 3.5 was never a version and is spoken as 3.3 (section 7.1.1); so are other odd ones below 3.7.
    fn agree(major: u16, minor: u16) -> Result<Self, RfbError> {
        match (major, minor) {
            (3, 3..=6) => Ok(Self::V3_3),
            (3, 7) => Ok(Self::V3_7),
            (3, 8..) | (4.., _) => Ok(Self::V3_8),
            (0..=2, _) | (3, 0..=2) => Err(RfbError::Version { major, minor }),
        }
    }

    fn text(self) -> &'static [u8] {
        match self {
            Self::V3_3 => b"RFB 003.003\n",
            Self::V3_7 => b"RFB 003.007\n",
            Self::V3_8 => VERSION_3_8,
        }
    }
}

/// What a reason is given for.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Connection,
    Password,
}

impl Refusal {
    fn because(self, reason: Reason) -> RfbError {
        match self {
            Self::Connection => RfbError::Refused(reason),
            Self::Password => RfbError::Denied(reason),
        }
    }
}

/// What is due next from the desktop.
#[derive(Clone, Copy, Debug)]
enum State {
    Version,
    /// 3.3: the server alone decides.
    SecurityType,
    /// 3.7 and later.
    SecurityTypes(Version),
    Challenge(Version),
    Result(Version),
    Reason(Refusal),
    /// Over, well or not.
    Spent,
}

/// Client side of the handshake.
pub struct ClientHandshake {
    state: State,
    key: Option<Key>,
}

impl ClientHandshake {
    /// Proves `password`; an empty one means that the desktop asks for none.
    #[must_use]
    pub fn new(password: &[u8]) -> Self {
        Self { state: State::Version, key: (!password.is_empty()).then(|| Key::new(password)) }
    }

    /// Takes what has arrived and was not consumed yet; appends to `reply` what must be sent now.
    ///
    /// # Errors
    /// [`RfbError`] when the desktop refuses, or speaks something else. The machine is spent then.
    pub fn advance(&mut self, input: &[u8], reply: &mut Vec<u8>) -> Result<Progress, RfbError> {
        let progress = drive(input, |input| self.step(input, reply));
        if !matches!(progress, Ok(Progress { done: false, .. })) {
            self.state = State::Spent;
        }
        progress
    }

    /// What it means that the desktop closed now.
    #[must_use]
    pub fn closed(&self) -> RfbError {
        match self.state {
            State::Version => RfbError::Closed("its version"),
            State::SecurityType | State::SecurityTypes(_) => RfbError::Closed("its security types"),
            State::Challenge(_) => RfbError::Closed("its challenge"),
            State::Result(_) => RfbError::Closed("its verdict"),
            // It has already said no; only its words are missing.
            State::Reason(refusal) => refusal.because(Reason::default()),
            State::Spent => RfbError::Spent,
        }
    }

    fn step(&mut self, input: &mut Input<'_>, reply: &mut Vec<u8>) -> Result<Step, RfbError> {
        match self.state {
            State::Version => {
                let Some((major, minor)) = version(input)? else { return Ok(Step::Wait) };
                let version = Version::agree(major, minor)?;
                reply.extend_from_slice(version.text());
                self.state = match version {
                    Version::V3_3 => State::SecurityType,
                    Version::V3_7 | Version::V3_8 => State::SecurityTypes(version),
                };
                Ok(Step::Next)
            }
            State::SecurityType => {
                let Some(kind) = input.u32() else { return Ok(Step::Wait) };
                match u8::try_from(kind) {
                    Ok(security::INVALID) => self.refused(Refusal::Connection),
                    Ok(kind) => {
                        self.choose(&[kind])?;
                        self.enter(kind, Version::V3_3)
                    }
                    Err(_) => Err(RfbError::Nonsense { what: "security type", value: kind }),
                }
            }
            State::SecurityTypes(version) => {
                let Some(offered) = input.list_u8() else { return Ok(Step::Wait) };
                if offered.is_empty() {
                    return self.refused(Refusal::Connection);
                }
                let kind = self.choose(offered)?;
                reply.push(kind);
                self.enter(kind, version)
            }
            State::Challenge(version) => {
                let Some(challenge) = input.array::<CHALLENGE_LEN>() else { return Ok(Step::Wait) };
                let Some(key) = &self.key else { return Err(RfbError::Spent) };
                reply.extend_from_slice(&key.answer(challenge));
                self.state = State::Result(version);
                Ok(Step::Next)
            }
            State::Result(version) => {
                let Some(result) = input.u32() else { return Ok(Step::Wait) };
                match result {
                    0 => Ok(Step::Done),
                    // 2 is "too many attempts", from before the RFC; some servers still send it.
                    1 | 2 if version == Version::V3_8 => self.refused(Refusal::Password),
                    1 | 2 => Err(RfbError::Denied(Reason::default())),
                    value => Err(RfbError::Nonsense { what: "security result", value }),
                }
            }
            State::Reason(refusal) => {
                let Some(length) = input.peek_u32() else { return Ok(Step::Wait) };
                match usize::try_from(length) {
                    Ok(length) if length <= MAX_REASON => match input.take(4 + length) {
                        Some(bytes) => Err(refusal.because(Reason::from_bytes(bytes.split_at(4).1))),
                        None => Ok(Step::Wait),
                    },
                    // A refusal is a refusal, whatever it claims to have to say.
                    Ok(_) | Err(_) => Err(refusal.because(Reason::default())),
                }
            }
            State::Spent => Err(RfbError::Spent),
        }
    }

    /// The one acceptable type among those offered.
    fn choose(&self, offered: &[u8]) -> Result<u8, RfbError> {
        let wanted = if self.key.is_some() { security::VNC_AUTH } else { security::NONE };
        if offered.contains(&wanted) {
            Ok(wanted)
        } else {
            Err(RfbError::NoSecurity { password: self.key.is_some(), offered: offered.to_vec() })
        }
    }

    /// What follows the choice. After None, only 3.8 sends a result (appendix A.2).
    fn enter(&mut self, kind: u8, version: Version) -> Result<Step, RfbError> {
        self.state = match (kind, version) {
            (security::VNC_AUTH, _) => State::Challenge(version),
            (_, Version::V3_8) => State::Result(version),
            (_, Version::V3_3 | Version::V3_7) => return Ok(Step::Done),
        };
        Ok(Step::Next)
    }

    fn refused(&mut self, refusal: Refusal) -> Result<Step, RfbError> {
        self.state = State::Reason(refusal);
        Ok(Step::Next)
    }
}

impl std::fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientHandshake").field("state", &self.state).finish_non_exhaustive()
    }
}
