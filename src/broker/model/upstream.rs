//! Credentials and certificates of upstreams, and what policy kept from passing.

use crate::domain::secret::SecretString;
use crate::domain::upstream::Fingerprint;

/// A certificate that an upstream presented and whose key it has proved to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresentedCertificate {
    /// SHA-256 of the DER encoding.
    pub fingerprint: Fingerprint,
    /// Its subject, sanitized and truncated before it is stored.
    pub subject: String,
}

/// Result of a certificate check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertificateCheck {
    /// It is pinned, or was pinned just now as the first one.
    Trusted,
    /// Another one is pinned. An administrator sees both and may accept it.
    Refused,
}

/// What policy kept from passing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferRefusal {
    /// `clipboard`, `files`, `input` or `channel`.
    pub channel: &'static str,
    /// `in` (to the desktop) or `out`.
    pub direction: &'static str,
    pub bytes: u64,
    pub count: u64,
}

#[derive(Debug)]
pub struct NewCredential {
    /// Absent where the protocol has no account names.
    pub username: Option<String>,
    pub domain: Option<String>,
    pub password: SecretString,
}
