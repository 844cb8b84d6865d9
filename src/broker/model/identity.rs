//! Sign-in, second factor, users.

use crate::domain::principal::{Principal, SignedInUser};
use crate::domain::secret::SecretString;
use crate::domain::user::{Mfa, Role};
use crate::domain::{LoginId, Timestamp};
use std::time::Duration;

/// Outcome of the first factor.
#[derive(Debug)]
pub enum SignIn {
    Done(Box<Tokens>),
    /// A second factor must be verified (`enrollment_required` false) or enrolled first (true).
    MfaRequired {
        token: SecretString,
        enrollment_required: bool,
        expires_in: Duration,
    },
}

#[derive(Debug)]
pub struct Tokens {
    pub access_token: SecretString,
    pub expires_in: Duration,
    pub refresh_token: SecretString,
    /// Life of the refresh token.
    pub refresh_expires_in: Duration,
    pub caller: SignedInUser,
    /// After a sign-in: what the browser presents at its next one, as a known browser.
    pub known_browser: Option<KnownBrowserCookie>,
    /// Wrong codes that anybody entered, who had the password, since the user last signed in.
    pub wrong_codes: u32,
}

/// Says that a browser has signed in to accounts; authenticates nobody.
#[derive(Debug)]
pub struct KnownBrowserCookie {
    pub value: SecretString,
    pub expires_in: Duration,
}

#[derive(Debug)]
pub enum EnrollAs<'a> {
    /// A sign-in between first factor and enrolment.
    MfaToken(&'a SecretString),
    SignedIn(&'a Principal),
}

/// A TOTP secret, shown once.
#[derive(Debug)]
pub struct TotpEnrollment {
    /// Base32.
    pub secret: SecretString,
    /// `otpauth://totp/...`
    pub otpauth_url: SecretString,
    /// SVG of the URL as a QR code.
    pub qr_svg: SecretString,
    pub issuer: String,
    pub account: String,
}

#[derive(Clone, Debug)]
pub struct LoginView {
    pub id: LoginId,
    pub is_current: bool,
    pub mfa: Option<Mfa>,
    pub created_at: Timestamp,
    /// When it ended, or will end unless renewed.
    pub ends_at: Timestamp,
    pub is_active: bool,
    pub source_ip: Option<String>,
    pub user_agent: Option<String>,
}

#[derive(Debug)]
pub struct NewUser {
    pub email: String,
    pub name: String,
    pub password: SecretString,
    pub role: Role,
}

/// A change of a user: `None` leaves a field as it is.
#[derive(Debug, Default)]
pub struct UserChange {
    pub name: Option<String>,
    pub role: Option<Role>,
    pub disabled: Option<bool>,
    pub password: Option<SecretString>,
}
