//! The gateway as an RFB client of a desktop (section 7.1, appendix A for the older versions;
//! VeNCrypt 0.2 as in the community's rfbproto).
//!
//! ```text
//!            3.3:  u32 type ──────────┐
//! Version ─┤                          ├─ None ─(3.8: Result)──────────────────────────────> done, before ClientInit
//!            3.7+: list, choice ──────┤
//!                                     ├─ VncAuth: Challenge ─ Result ──────────────────────> done
//!                                     └─ VeNCrypt: version, list, choice ─ TLS ─┬─ None ─────── Result ─> done
//!                                                                              ├─ VncAuth ─┘
//!                                                                              └─ Plain ───┘
//! ```
//!
//! The lease decides which security types are acceptable, not the desktop: with a password only
//! types that prove it, so that another server cannot let the gateway in without; without a
//! password only types that need none; and where a certificate is expected only types that show
//! one. The best acceptable one is chosen: TLS with a certificate, then TLS without, then no TLS.

use super::auth::{CHALLENGE_LEN, VncAuthKey};
use super::refusal::{FailureKind, read_reason};
use super::security::{self, InnerAuth, SecurityRequirements, SubType, vencrypt};
use super::version::{self, Version};
use super::{Input, Progress, Reason, RfbError, Step, drive};
use zeroize::Zeroizing;

/// Longest user name or password that is sent by Plain.
const MAX_PLAIN_LENGTH: usize = 1024;

/// The gateway's credential, and what it requires.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// Account name; empty: none.
    pub username: &'a [u8],
    /// Password; empty: the desktop requires none.
    pub password: &'a [u8],
    /// A certificate is expected.
    pub require_certificate: bool,
}

/// State of the handshake: what is due next from the desktop.
#[derive(Clone, Copy, Debug)]
enum State {
    Version,
    /// 3.3: the server alone decides.
    SecurityType,
    /// 3.7 and later.
    SecurityTypes(Version),
    /// VeNCrypt: its version.
    VeNCrypt(Version),
    /// VeNCrypt: acknowledgement of the version.
    VeNCryptAck(Version),
    /// VeNCrypt: its subtypes.
    SubTypes(Version),
    /// VeNCrypt: acknowledgement of the subtype; TLS follows.
    TlsAck(Version, SubType),
    /// TLS is established; nothing is due from the desktop.
    TlsEstablished(Version, SubType),
    Challenge(Version),
    Result(Version),
    Reason(FailureKind),
    /// Finished or failed.
    Finished,
}

/// Client side of the handshake.
pub struct ClientHandshake {
    state: State,
    key: Option<VncAuthKey>,
    /// Name and password for Plain.
    plain: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    requirements: SecurityRequirements,
}

impl ClientHandshake {
    /// A handshake with these credentials. Plain is not used when a name or password is too long
    /// for it.
    #[must_use]
    pub fn new(credentials: &Credentials<'_>) -> Self {
        let Credentials { username, password, require_certificate } = *credentials;
        let fits_plain = !username.is_empty()
            && !password.is_empty()
            && username.len() <= MAX_PLAIN_LENGTH
            && password.len() <= MAX_PLAIN_LENGTH;
        Self {
            state: State::Version,
            key: (!password.is_empty()).then(|| VncAuthKey::new(password)),
            plain: fits_plain.then(|| (username.to_vec(), Zeroizing::new(password.to_vec()))),
            requirements: SecurityRequirements {
                password: !password.is_empty(),
                plain: fits_plain,
                certificate: require_certificate,
                excluded: Vec::new(),
            },
        }
    }

    /// Excludes these VeNCrypt subtypes, which failed before.
    #[must_use]
    pub fn excluding(mut self, subtypes: &[u32]) -> Self {
        self.requirements.excluded.extend_from_slice(subtypes);
        self
    }

    /// The chosen VeNCrypt subtype while nothing was authenticated by it: if the connection fails
    /// now, another subtype may work.
    #[must_use]
    pub fn unauthenticated_subtype(&self) -> Option<u32> {
        match self.state {
            State::TlsAck(_, (chosen, _, _)) | State::TlsEstablished(_, (chosen, _, _)) => {
                Some(chosen)
            }
            State::Version
            | State::SecurityType
            | State::SecurityTypes(_)
            | State::VeNCrypt(_)
            | State::VeNCryptAck(_)
            | State::SubTypes(_)
            | State::Challenge(_)
            | State::Result(_)
            | State::Reason(_)
            | State::Finished => None,
        }
    }

    /// The gateway has said everything; the desktop decides, and may ask a person.
    #[must_use]
    pub fn awaits_result(&self) -> bool {
        matches!(self.state, State::Result(_) | State::Reason(_))
    }

    /// Processes input that was not consumed yet; appends to `reply` what must be sent now.
    ///
    /// # Errors
    /// [`RfbError`] when the desktop refuses or violates the protocol. The handshake is finished
    /// then.
    pub fn advance(&mut self, input: &[u8], reply: &mut Vec<u8>) -> Result<Progress, RfbError> {
        let progress = drive(input, |input| self.step(input, reply));
        if !matches!(progress, Ok(Progress { done: false, .. })) {
            self.state = State::Finished;
        }
        progress
    }

    /// TLS is established, as [`Progress::start_tls`] requested; further messages are inside it.
    ///
    /// # Errors
    /// [`RfbError::AlreadyFinished`] when it was not requested.
    pub fn tls_established(&mut self, reply: &mut Vec<u8>) -> Result<(), RfbError> {
        let State::TlsEstablished(version, (_, _, inner)) = self.state else {
            return Err(RfbError::AlreadyFinished);
        };
        self.state = match inner {
            InnerAuth::None => State::Result(version),
            InnerAuth::VncAuth => State::Challenge(version),
            InnerAuth::Plain => {
                let (name, password) = self.plain.as_ref().ok_or(RfbError::AlreadyFinished)?;
                for part in [name, &**password] {
                    let length = u32::try_from(part.len()).unwrap_or(0);
                    reply.extend_from_slice(&length.to_be_bytes());
                }
                reply.extend_from_slice(name);
                reply.extend_from_slice(password);
                State::Result(version)
            }
        };
        Ok(())
    }

    /// The error for a desktop that closes the connection in this state.
    #[must_use]
    pub fn unexpected_close(&self) -> RfbError {
        match self.state {
            State::Version => RfbError::Closed("its version"),
            State::SecurityType | State::SecurityTypes(_) | State::SubTypes(_) => {
                RfbError::Closed("its security types")
            }
            State::VeNCrypt(_) | State::VeNCryptAck(_) => {
                RfbError::Closed("its version of VeNCrypt")
            }
            State::TlsAck(..) | State::TlsEstablished(..) => RfbError::Closed("TLS"),
            State::Challenge(_) => RfbError::Closed("its challenge"),
            State::Result(_) => RfbError::Closed("its verdict"),
            // It has already refused; only the reason is missing.
            State::Reason(refusal) => refusal.with_reason(Reason::default()),
            State::Finished => RfbError::AlreadyFinished,
        }
    }

    fn step(&mut self, input: &mut Input<'_>, reply: &mut Vec<u8>) -> Result<Step, RfbError> {
        match self.state {
            State::Version => self.read_version(input, reply),
            State::SecurityType => self.read_security_type(input),
            State::SecurityTypes(version) => self.read_security_types(version, input, reply),
            State::VeNCrypt(version) => self.read_vencrypt_version(version, input, reply),
            State::VeNCryptAck(version) => self.read_vencrypt_ack(version, input),
            State::SubTypes(version) => self.read_subtypes(version, input, reply),
            State::TlsAck(version, chosen) => self.read_tls_ack(version, chosen, input),
            State::TlsEstablished(..) => Ok(Step::Wait),
            State::Challenge(version) => self.read_challenge(version, input, reply),
            State::Result(version) => self.read_result(version, input),
            State::Reason(refusal) => read_reason(refusal, input),
            State::Finished => Err(RfbError::AlreadyFinished),
        }
    }

    fn read_version(
        &mut self,
        input: &mut Input<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<Step, RfbError> {
        let Some((major, minor)) = version::parse(input)? else { return Ok(Step::Wait) };
        let version = Version::agree(major, minor)?;
        reply.extend_from_slice(version.text());
        self.state = match version {
            Version::V3_3 => State::SecurityType,
            Version::V3_7 | Version::V3_8 => State::SecurityTypes(version),
        };
        Ok(Step::Next)
    }

    /// 3.3: the server selects the type.
    fn read_security_type(&mut self, input: &mut Input<'_>) -> Result<Step, RfbError> {
        let Some(kind) = input.u32() else { return Ok(Step::Wait) };
        match u8::try_from(kind) {
            Ok(security::INVALID) => self.refused(FailureKind::Connection),
            Ok(kind) => {
                // VeNCrypt needs a list of types (3.7), so 3.3 cannot select it.
                let kind = self.requirements.choose(if kind == security::VENCRYPT {
                    &[]
                } else {
                    std::slice::from_ref(&kind)
                })?;
                self.start_auth(kind, Version::V3_3)
            }
            Err(_) => Err(RfbError::InvalidValue { what: "security type", value: kind }),
        }
    }

    fn read_security_types(
        &mut self,
        version: Version,
        input: &mut Input<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<Step, RfbError> {
        let Some(offered) = input.list_u8() else { return Ok(Step::Wait) };
        if offered.is_empty() {
            return self.refused(FailureKind::Connection);
        }
        let kind = self.requirements.choose(offered)?;
        reply.push(kind);
        self.start_auth(kind, version)
    }

    fn read_vencrypt_version(
        &mut self,
        version: Version,
        input: &mut Input<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<Step, RfbError> {
        match input.array() {
            None => return Ok(Step::Wait),
            // 0.1 has other subtypes and is not in use any more.
            Some(server_version) if server_version >= vencrypt::VERSION => {
                reply.extend_from_slice(&vencrypt::VERSION)
            }
            Some(server_version) => {
                return Err(RfbError::InvalidValue {
                    what: "version of VeNCrypt",
                    value: u16::from_be_bytes(server_version).into(),
                });
            }
        }
        self.state = State::VeNCryptAck(version);
        Ok(Step::Next)
    }

    fn read_vencrypt_ack(
        &mut self,
        version: Version,
        input: &mut Input<'_>,
    ) -> Result<Step, RfbError> {
        match input.array() {
            None => Ok(Step::Wait),
            Some([0]) => {
                self.state = State::SubTypes(version);
                Ok(Step::Next)
            }
            Some([value]) => Err(RfbError::InvalidValue {
                what: "answer to a version of VeNCrypt",
                value: value.into(),
            }),
        }
    }

    fn read_subtypes(
        &mut self,
        version: Version,
        input: &mut Input<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<Step, RfbError> {
        let Some(offered) = input.list_u32() else { return Ok(Step::Wait) };
        let chosen = self.requirements.choose_vencrypt(offered)?;
        reply.extend_from_slice(&chosen.0.to_be_bytes());
        self.state = State::TlsAck(version, chosen);
        Ok(Step::Next)
    }

    fn read_tls_ack(
        &mut self,
        version: Version,
        chosen: SubType,
        input: &mut Input<'_>,
    ) -> Result<Step, RfbError> {
        match input.array() {
            None => Ok(Step::Wait),
            Some([0]) => Err(RfbError::Declined(chosen.0)),
            Some([1]) => {
                self.state = State::TlsEstablished(version, chosen);
                Ok(Step::StartTls(chosen.1))
            }
            Some([value]) => Err(RfbError::InvalidValue {
                what: "answer to a security type of VeNCrypt",
                value: value.into(),
            }),
        }
    }

    fn read_challenge(
        &mut self,
        version: Version,
        input: &mut Input<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<Step, RfbError> {
        let Some(challenge) = input.array::<CHALLENGE_LEN>() else { return Ok(Step::Wait) };
        let Some(key) = &self.key else { return Err(RfbError::AlreadyFinished) };
        reply.extend_from_slice(&key.response(challenge));
        self.state = State::Result(version);
        Ok(Step::Next)
    }

    fn read_result(&mut self, version: Version, input: &mut Input<'_>) -> Result<Step, RfbError> {
        let Some(result) = input.u32() else { return Ok(Step::Wait) };
        let refusal = if self.requirements.password {
            FailureKind::Password
        } else {
            FailureKind::Connection
        };
        match result {
            0 => Ok(Step::Done),
            1 | 2 if version == Version::V3_8 => self.refused(refusal),
            1 if !self.requirements.password => Err(RfbError::Refused(Reason::default())),
            1 => Err(RfbError::AuthenticationFailed(Reason::default())),
            // "Too many attempts", older than the RFC; some servers still send it.
            2 => Err(RfbError::AuthenticationFailed(Reason::too_many())),
            value => Err(RfbError::InvalidValue { what: "security result", value }),
        }
    }

    /// State after the choice. After None, only 3.8 sends a result (appendix A.2).
    fn start_auth(&mut self, kind: u8, version: Version) -> Result<Step, RfbError> {
        self.state = match (kind, version) {
            (security::VENCRYPT, _) => State::VeNCrypt(version),
            (security::VNC_AUTH, _) => State::Challenge(version),
            (_, Version::V3_8) => State::Result(version),
            (_, Version::V3_3 | Version::V3_7) => return Ok(Step::Done),
        };
        Ok(Step::Next)
    }

    fn refused(&mut self, refusal: FailureKind) -> Result<Step, RfbError> {
        self.state = State::Reason(refusal);
        Ok(Step::Next)
    }
}

impl std::fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientHandshake").field("state", &self.state).finish_non_exhaustive()
    }
}
