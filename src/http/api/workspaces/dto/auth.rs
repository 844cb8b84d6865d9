//! Sign-in.

use super::user::{MfaProof, User};
use crate::broker::model::{LoginView, Tokens, TotpEnrollment};
use crate::domain::secret::SecretString;
use crate::domain::user::MfaMethod;
use crate::domain::{Error, LoginId, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// First factor.
#[derive(Deserialize, ToSchema)]
pub struct Login {
    /// E-mail address.
    pub email: String,
    /// Password.
    #[schema(value_type = String, format = Password)]
    pub password: SecretString,
}

/// Response to the first factor.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant)]
pub enum LoginAnswer {
    /// Signed in.
    SignedIn(SignedIn),
    /// A second factor is due.
    MfaDue(MfaDue),
}

/// Signed in. In browser mode the tokens are in cookies and not here.
#[derive(Serialize, ToSchema)]
pub struct SignedIn {
    /// Always false.
    pub mfa_required: bool,
    /// JWT, signed with Ed25519.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub access_token: Option<String>,
    /// `bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token_type: Option<&'static str>,
    /// Lifetime of the access token, seconds.
    pub expires_in: u64,
    /// Can be used once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub refresh_token: Option<String>,
    /// What the user should know: somebody seems to have their password.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub notice: Option<String>,
    /// The user.
    pub user: User,
}

/// Fewer wrong codes are taken for the user's own mistakes.
const WRONG_CODES_MIN: u32 = 5;

fn notice(wrong_codes: u32) -> Option<String> {
    (wrong_codes >= WRONG_CODES_MIN).then(|| {
        format!(
            "Since you last signed in, {wrong_codes} wrong codes were entered with your password. If that was not you, somebody knows it: ask an administrator for a new password."
        )
    })
}

impl SignedIn {
    /// For a program: the tokens in the body.
    #[must_use]
    pub fn with_tokens(tokens: &Tokens) -> Self {
        Self {
            access_token: Some(tokens.access_token.expose().clone()),
            token_type: Some("bearer"),
            refresh_token: Some(tokens.refresh_token.expose().clone()),
            ..Self::without_tokens(tokens)
        }
    }

    /// For a browser: the tokens are in its cookies.
    #[must_use]
    pub fn without_tokens(tokens: &Tokens) -> Self {
        Self {
            mfa_required: false,
            access_token: None,
            token_type: None,
            expires_in: tokens.expires_in.as_secs(),
            refresh_token: None,
            notice: notice(tokens.wrong_codes),
            user: (&tokens.caller.user).into(),
        }
    }
}

/// A second factor is due, or must be enrolled first.
#[derive(Serialize, ToSchema)]
pub struct MfaDue {
    /// Always true.
    pub mfa_required: bool,
    /// For `mfa/verify`, or for enrolment.
    pub mfa_token: String,
    /// Methods of the enrolled factors; empty when none is enrolled.
    pub methods: Vec<&'static str>,
    /// The user has no factor, and policy requires one.
    pub enrollment_required: bool,
    /// Lifetime of the token, seconds.
    pub expires_in: u64,
}

impl MfaDue {
    /// From the broker's answer.
    #[must_use]
    pub fn new(token: &SecretString, enrollment_required: bool, expires_in: Duration) -> Self {
        Self {
            mfa_required: true,
            mfa_token: token.expose().clone(),
            methods: if enrollment_required { Vec::new() } else { vec!["totp"] },
            enrollment_required,
            expires_in: expires_in.as_secs(),
        }
    }
}

/// Second factor.
#[derive(Deserialize, ToSchema)]
pub struct MfaVerify {
    /// From the response to the login.
    #[schema(value_type = String)]
    pub mfa_token: SecretString,
    /// `totp`.
    #[serde(default = "totp")]
    #[schema(default = "totp")]
    method: String,
    /// Six digits.
    #[schema(value_type = String)]
    pub code: SecretString,
}

fn totp() -> String {
    "totp".to_owned()
}

impl MfaVerify {
    /// # Errors
    /// `Invalid` when no user has a factor of this method.
    pub fn check_method(&self) -> Result<()> {
        match MfaMethod::parse(&self.method) {
            Some(MfaMethod::Totp) => Ok(()),
            None => Err(Error::invalid("method must be \"totp\".")),
        }
    }
}

/// Enrolment by the `mfa_token` of a login that requires it; without one, by the signed-in caller.
#[derive(Default, Deserialize, ToSchema)]
pub struct EnrollTotp {
    /// From the response to the login.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub mfa_token: Option<SecretString>,
}

/// A TOTP secret, shown once.
#[derive(Serialize, ToSchema)]
pub struct TotpSecret {
    /// Base32, to enter manually.
    pub secret: String,
    /// For authenticator apps.
    pub otpauth_url: String,
    /// The same as a QR code, an SVG document.
    pub qr_svg: String,
    /// Issuer shown in the app.
    pub issuer: String,
    /// Account shown in the app.
    pub account: String,
    /// Digits of a code.
    pub digits: u8,
    /// Period of a code, seconds.
    pub period: u8,
}

impl From<TotpEnrollment> for TotpSecret {
    fn from(e: TotpEnrollment) -> Self {
        Self {
            secret: e.secret.expose().clone(),
            otpauth_url: e.otpauth_url.expose().clone(),
            qr_svg: e.qr_svg.expose().clone(),
            issuer: e.issuer,
            account: e.account,
            digits: 6,
            period: 30,
        }
    }
}

/// First code of an enrolment.
#[derive(Deserialize, ToSchema)]
pub struct ConfirmTotp {
    /// As in enrolment.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub mfa_token: Option<SecretString>,
    /// Six digits.
    #[schema(value_type = String)]
    pub code: SecretString,
}

/// Response to a confirmation.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant)]
pub enum ConfirmAnswer {
    /// With an `mfa_token`: signed in.
    SignedIn(SignedIn),
    /// Signed in before: enrolled.
    Enrolled(Enrolled),
}

/// The second factor is enrolled.
#[derive(Serialize, ToSchema)]
pub struct Enrolled {
    /// A sentence.
    pub message: String,
    /// The user.
    pub user: User,
}

/// Refresh: the token here, or in the cookie.
#[derive(Default, Deserialize, ToSchema)]
pub struct Refresh {
    /// From the last response.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub refresh_token: Option<SecretString>,
}

/// Sign-out.
#[derive(Default, Deserialize, ToSchema)]
pub struct Logout {
    /// End every login and every session of the user, not just this login.
    #[serde(default)]
    pub everywhere: bool,
}

/// A login of the caller.
#[derive(Serialize, ToSchema)]
pub struct SignInRecord {
    /// Id.
    #[schema(value_type = String, format = Uuid)]
    pub id: LoginId,
    /// The login of this request.
    pub current: bool,
    /// Not ended or expired.
    pub active: bool,
    /// The second factor verified in it.
    #[serde(flatten)]
    pub mfa: MfaProof,
    /// Start.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// End; of an active login, when it ends unless refreshed.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Timestamp,
    /// Client address.
    #[schema(required = true)]
    pub source_ip: Option<String>,
    /// User agent.
    #[schema(required = true)]
    pub user_agent: Option<String>,
}

impl From<LoginView> for SignInRecord {
    fn from(v: LoginView) -> Self {
        Self {
            id: v.id,
            current: v.is_current,
            active: v.is_active,
            mfa: v.mfa.into(),
            created_at: v.created_at,
            ends_at: v.ends_at,
            source_ip: v.source_ip,
            user_agent: v.user_agent,
        }
    }
}
