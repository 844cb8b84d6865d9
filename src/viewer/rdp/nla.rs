//! Network Level Authentication (CredSSP, \[MS-CSSP\]) by the gateway: it proves the credential to
//! the server over TLS, and the browser has none.
//!
//! | term | meaning |
//! | --- | --- |
//! | *TSRequest* | the only message of CredSSP, DER \[MS-CSSP\] 2.2.1 |
//! | *binding* | both sides hash the server's public key under the session key of the login, which detects a man in the middle |
//! | [`LogonFailure`] | why the server refused the credential, as far as it tells |

use crate::domain::upstream::Credential;
use sspi::credssp::{ClientMode, ClientState, CredSspClient, CredSspMode, TsRequest};
use sspi::ntlm::NtlmConfig;
use sspi::{AuthIdentity, Username};
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use zeroize::Zeroizing;

/// Longest TSRequest that is accepted. NTLM's have a few hundred bytes; a challenge lists the names
/// of one server.
const MAX_REQUEST: usize = 16 * 1024;
/// Most round trips: NTLM takes three.
const MAX_ROUNDS: usize = 8;
/// DER SEQUENCE, the first byte of a TSRequest.
const TAG: u8 = 0x30;
/// Workstation name in the server's log.
const WORKSTATION: &str = "portcullis";

/// Why a server refused a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogonFailure {
    /// Unknown user or wrong password; servers do not tell which.
    WrongPassword,
    /// Too many wrong passwords.
    Locked,
    Disabled,
    Expired,
    PasswordExpired,
    /// The password must be changed before the first login.
    PasswordMustChange,
    /// Logon hours, workstation, or an empty password.
    Restricted,
    /// The account may not log in remotely.
    NotGranted,
    /// The account signs in by smart card only.
    SmartCard,
    /// The server does not accept NTLM, the only mechanism used here.
    NtlmBlocked,
    /// The server does not reach its domain controller.
    NoLogonServers,
    /// The server accepts no saved credential for this account; sent inside RDP (\[MS-RDPBCGR\]
    /// 2.2.5.1.1).
    FreshCredentialsRequired,
    Other(u32),
    /// It closed the connection after the authentication message.
    ConnectionClosed,
}

impl LogonFailure {
    /// From an NTSTATUS, \[MS-ERREF\] 2.3.1, also wrapped in an HRESULT (2.1, the N bit), or from
    /// the corresponding Win32 error (2.2) or SSPI error.
    #[must_use]
    pub fn from_status(status: u32) -> Self {
        let status = if status >> 16 == 0xd000 { status & !0x1000_0000 } else { status };
        match status {
            // STATUS_NO_SUCH_USER, _WRONG_PASSWORD, _LOGON_FAILURE, ERROR_LOGON_FAILURE,
            // SEC_E_LOGON_DENIED.
            0xc000_0064 | 0xc000_006a | 0xc000_006d | 0x8007_052e | 0x8009_030c => {
                Self::WrongPassword
            }
            // _ACCOUNT_LOCKED_OUT.
            0xc000_0234 | 0x8007_0775 => Self::Locked,
            // _ACCOUNT_DISABLED.
            0xc000_0072 | 0x8007_0533 => Self::Disabled,
            // _ACCOUNT_EXPIRED.
            0xc000_0193 | 0x8007_0701 => Self::Expired,
            // _PASSWORD_EXPIRED.
            0xc000_0071 | 0x8007_0532 => Self::PasswordExpired,
            // _PASSWORD_MUST_CHANGE.
            0xc000_0224 | 0x8007_0773 => Self::PasswordMustChange,
            // _ACCOUNT_RESTRICTION, _INVALID_LOGON_HOURS, _INVALID_WORKSTATION.
            0xc000_006e..=0xc000_0070 | 0x8007_052f..=0x8007_0531 => Self::Restricted,
            // _LOGON_NOT_GRANTED, _LOGON_TYPE_NOT_GRANTED, STATUS_AUTHENTICATION_FIREWALL_FAILED.
            0xc000_0155 | 0xc000_015b | 0xc000_0413 | 0x8007_0564 | 0x8007_0569 => Self::NotGranted,
            // STATUS_SMARTCARD_LOGON_REQUIRED.
            0xc000_02fa => Self::SmartCard,
            // STATUS_NTLM_BLOCKED.
            0xc000_0418 => Self::NtlmBlocked,
            // _NO_LOGON_SERVERS, STATUS_TRUSTED_DOMAIN_FAILURE, _TRUSTED_RELATIONSHIP_FAILURE,
            // _NETLOGON_NOT_STARTED, SEC_E_NO_AUTHENTICATING_AUTHORITY.
            0xc000_005e | 0xc000_018c | 0xc000_018d | 0xc000_0192 | 0x8007_051f | 0x8009_0311 => {
                Self::NoLogonServers
            }
            other => Self::Other(other),
        }
    }

    /// Reason code of the audit log.
    #[must_use]
    pub fn reason_code(self) -> &'static str {
        match self {
            Self::WrongPassword => "wrong_password",
            Self::Locked => "account_locked",
            Self::Disabled => "account_disabled",
            Self::Expired => "account_expired",
            Self::PasswordExpired => "password_expired",
            Self::PasswordMustChange => "password_must_change",
            Self::Restricted => "logon_restricted",
            Self::NotGranted => "logon_not_granted",
            Self::SmartCard => "smart_card_required",
            Self::NtlmBlocked => "ntlm_blocked",
            Self::NoLogonServers => "no_logon_server",
            Self::FreshCredentialsRequired => "credential_must_be_typed",
            Self::Other(_) | Self::ConnectionClosed => "refused",
        }
    }
}

/// Why NLA failed.
#[derive(Debug, Error)]
pub enum NlaError {
    /// The server did not accept the credential.
    #[error("the server did not accept the credential: {}", .0.reason_code())]
    Refused(LogonFailure),
    /// The user name is invalid.
    #[error("the user name and domain cannot be used together")]
    Username,
    /// The certificate has no key to bind.
    #[error("the server's certificate cannot be read")]
    Certificate,
    /// An invalid CredSSP message.
    #[error("the server does not speak CredSSP: {0}")]
    InvalidMessage(&'static str),
    /// The server did not prove that it holds the certificate's key: possibly a man in the middle.
    #[error("the server did not prove that it holds its certificate's key")]
    Binding,
    /// The client could not make its message.
    #[error("CredSSP failed: {0}")]
    Failed(String),
    /// The connection failed.
    #[error("the connection broke")]
    Io(#[source] io::Error),
}

impl NlaError {
    /// Reason code of the audit log.
    #[must_use]
    pub fn reason_code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason_code(),
            Self::Username => "nla_username",
            Self::Binding => "nla_binding",
            Self::Certificate | Self::InvalidMessage(_) | Self::Failed(_) | Self::Io(_) => {
                "nla_broken"
            }
        }
    }
}

/// Authenticates with `credential` to the server at the other end of `stream`, whose certificate
/// (DER) was received in the TLS handshake.
///
/// # Errors
/// [`NlaError`]; nothing more may be sent on the stream then.
pub(super) async fn authenticate(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    certificate: &[u8],
    credential: &Credential,
) -> Result<(), NlaError> {
    let mut client = client(certificate, credential)?;
    let mut request = TsRequest::default();
    for round in 0..MAX_ROUNDS {
        // The server's binding proof answers the last message of our login; before that, an error
        // is a token that cannot be read.
        let proof_due = request.pub_key_auth.is_some();
        let state = client
            .process(request)
            .resolve_to_result()
            .map_err(|e| process_error(&e, round, proof_due))?;
        let (reply, last) = match state {
            ClientState::ReplyNeeded(reply) => (reply, false),
            ClientState::FinalMessage(reply) => (reply, true),
        };
        // The last one contains the encrypted password; sspi is responsible for wiping its
        // plaintext.
        let mut message = Zeroizing::new(Vec::with_capacity(1024));
        reply.encode_ts_request(&mut *message).map_err(|e| NlaError::Failed(e.to_string()))?;
        let written = async {
            stream.write_all(&message).await?;
            stream.flush().await
        };
        written.await.map_err(|e| io_error(e, round))?;
        if last {
            return Ok(());
        }
        request = read_ts_request(stream).await.map_err(|e| match e {
            NlaError::Io(error) => io_error(error, round),
            other => other,
        })?;
        if let Some(status) = request.error_code.filter(|status| status.0 != 0) {
            return Err(NlaError::Refused(LogonFailure::from_status(status.0)));
        }
    }
    Err(NlaError::InvalidMessage("it asks for more and more"))
}

/// The logon failure in the first bytes after CredSSP, if they are one: no PDU of a server begins
/// with this tag before its first response.
pub(super) fn late_failure(first: &[u8]) -> Option<LogonFailure> {
    if first.first() != Some(&TAG) {
        return None;
    }
    let status = TsRequest::from_buffer(first).ok().and_then(|request| request.error_code);
    Some(
        status.map_or(LogonFailure::ConnectionClosed, |status| LogonFailure::from_status(status.0)),
    )
}

fn client(certificate: &[u8], credential: &Credential) -> Result<CredSspClient, NlaError> {
    let certificate = Certificate::from_der(certificate).map_err(|_| NlaError::Certificate)?;
    // The content of the BIT STRING, not the whole SubjectPublicKeyInfo: [MS-CSSP] 3.1.5.
    let key = certificate
        .tbs_certificate()
        .subject_public_key_info()
        .subject_public_key
        .raw_bytes()
        .to_vec();
    let domain = Some(credential.domain.as_str()).filter(|domain| !domain.is_empty());
    let username = Username::new(&credential.username, domain).map_err(|_| NlaError::Username)?;
    let identity =
        AuthIdentity { username, password: credential.password.expose().to_owned().into() };
    let mode = ClientMode::Ntlm(NtlmConfig::new(WORKSTATION.to_owned()));
    // NTLM ignores the service name; the public key binds the login to this server.
    CredSspClient::new(
        key,
        identity.into(),
        CredSspMode::WithCredentials,
        mode,
        "TERMSRV/desktop".to_owned(),
    )
    .map_err(|e| NlaError::Failed(e.description))
}

fn process_error(error: &sspi::Error, round: usize, proof_due: bool) -> NlaError {
    match round {
        0 => NlaError::Failed(format!("{:?}", error.error_type)),
        _ if proof_due => NlaError::Binding,
        _ => NlaError::InvalidMessage("its answer cannot be used"),
    }
}

/// A server that closes after the first message does not speak CredSSP; one that closes later
/// refused the credential without a message.
fn io_error(error: io::Error, round: usize) -> NlaError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
            if round > 0 =>
        {
            NlaError::Refused(LogonFailure::ConnectionClosed)
        }
        _ => NlaError::Io(error),
    }
}

/// One TSRequest: a DER sequence whose length is checked before it is read.
async fn read_ts_request(stream: &mut (impl AsyncRead + Unpin)) -> Result<TsRequest, NlaError> {
    let mut message = vec![0; 2];
    stream.read_exact(&mut message).await.map_err(NlaError::Io)?;
    let [tag, first] = message[..] else { return Err(NlaError::InvalidMessage("no TSRequest")) };
    if tag != TAG {
        return Err(NlaError::InvalidMessage("no TSRequest"));
    }
    let length_bytes = match first {
        0x00..=0x7f => 0,
        0x81 | 0x82 => usize::from(first & 0x7f),
        _ => return Err(NlaError::InvalidMessage("a TSRequest of an impossible length")),
    };
    let mut length = usize::from(first);
    if length_bytes > 0 {
        length = 0;
        for _ in 0..length_bytes {
            let byte = stream.read_u8().await.map_err(NlaError::Io)?;
            message.push(byte);
            length = length << 8 | usize::from(byte);
        }
    }
    if length > MAX_REQUEST {
        return Err(NlaError::InvalidMessage("a TSRequest that is too long"));
    }
    let header = message.len();
    message.resize(header + length, 0);
    let Some(body) = message.get_mut(header..) else {
        return Err(NlaError::InvalidMessage("no TSRequest"));
    };
    stream.read_exact(body).await.map_err(NlaError::Io)?;
    TsRequest::from_buffer(&message)
        .map_err(|_| NlaError::InvalidMessage("a TSRequest that cannot be read"))
}
