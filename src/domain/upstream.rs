//! The server behind a workspace's stream: what may pass to and from it, who the gateway is to it,
//! and how it proves who it is.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`StreamPolicy`] | what the stream may carry, enforced on the wire |
//! | [`Credential`] | what the gateway proves to the server; the browser never holds it |
//! | [`TrustRule`] | how the server's certificate is checked, as an admin chose |
//! | [`Fingerprint`] | SHA-256 of a certificate in DER; a *pin* is the one expected |

use super::secret::SecretString;
use super::web_app::WebAppConfig;
use std::fmt;

/// Which way clipboard text may go. *In* is from the user's machine into the desktop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Clipboard {
    /// Neither way.
    None,
    /// Only into the desktop.
    In,
    /// Only out of the desktop.
    Out,
    /// Both ways.
    #[default]
    Both,
}

impl Clipboard {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::None, Self::In, Self::Out, Self::Both];

    /// Its word in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "both",
        }
    }

    /// The value of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.as_str() == word)
    }

    /// Text may go from the user's machine into the desktop.
    #[must_use]
    pub fn allows_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }

    /// Text may go out of the desktop to the user's machine.
    #[must_use]
    pub fn allows_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }
}

/// What a stream may carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StreamPolicy {
    /// Clipboard text.
    pub clipboard: Clipboard,
    /// Files and drives: RDP's file channels, files on the clipboard.
    pub files: bool,
    /// The screen is shown; keys, pointer and clipboard do not reach the desktop.
    pub read_only: bool,
}

impl Default for StreamPolicy {
    /// Clipboard text both ways and input; no files.
    fn default() -> Self {
        Self { clipboard: Clipboard::Both, files: false, read_only: false }
    }
}

/// Where the credential for a server comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CredentialSource {
    /// One for the workspace, kept sealed.
    #[default]
    Workspace,
    /// One per user and workspace, kept sealed.
    User,
    /// The user types it in the viewer; used once, never kept.
    Ask,
}

impl CredentialSource {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::Workspace, Self::User, Self::Ask];

    /// Its word in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::User => "user",
            Self::Ask => "ask",
        }
    }

    /// The source of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }
}

/// Who the gateway is to a server.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Account name; empty where the protocol has none (RFB's VncAuth).
    pub username: String,
    /// Windows domain; empty: the server's own accounts.
    pub domain: String,
    /// Password; empty: none is known.
    pub password: SecretString,
}

impl Credential {
    /// A password alone.
    #[must_use]
    pub fn password(password: SecretString) -> Self {
        Self { username: String::new(), domain: String::new(), password }
    }
}

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a text: 64 hexadecimal digits, with or without colons between the bytes;
    /// `sha256:` may stand before.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let digits: String =
            lower.strip_prefix("sha256:").unwrap_or(&lower).chars().filter(|c| *c != ':').collect();
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a server's certificate is checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TrustRule {
    /// The first one seen is pinned; another is refused until an admin accepts it.
    #[default]
    FirstUse,
    /// This one and no other.
    Pinned(Fingerprint),
    /// One issued by these authorities (PEM), for this name when there is one.
    Authority {
        /// Certificates of authorities, PEM.
        roots: String,
        /// The name the certificate must be for; `None`: any name these authorities vouch for.
        name: Option<String>,
    },
}

/// What is known of a server's certificate before it is met.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamTrust {
    /// The rule.
    pub rule: TrustRule,
    /// The pin that was recorded or accepted, for [`TrustRule::FirstUse`].
    pub pin: Option<Fingerprint>,
}

/// Everything a stream needs to know of its server, as it was when the stream was granted.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// TCP port.
    pub port: u16,
    /// What is proved to it; `None`: the user must be asked.
    pub credential: Option<Credential>,
    /// Where that came from.
    pub credential_source: CredentialSource,
    /// How it proves itself.
    pub trust: UpstreamTrust,
    /// What may pass.
    pub policy: StreamPolicy,
    /// RFB: other clients of the same desktop are put out (ClientInit's shared flag is 0). RFC 6143
    /// section 7.3.1.
    pub exclusive: bool,
    /// RDP: the keyboard layout told to the server (a Windows input locale identifier, `0x00000407`
    /// is German); `None`: the browser's own word.
    pub keyboard_layout: Option<u32>,
    /// A web application's own terms; `None` for every other kind.
    pub web_app: Option<Box<WebAppConfig>>,
}

impl Upstream {
    /// A desktop that an agent started: no certificate to check, a password of its own, nothing
    /// held back.
    #[must_use]
    pub fn agent_started(port: u16, password: SecretString, policy: StreamPolicy) -> Self {
        Self {
            port,
            credential: Some(Credential::password(password)),
            credential_source: CredentialSource::Workspace,
            trust: UpstreamTrust::default(),
            policy,
            exclusive: false,
            keyboard_layout: None,
            web_app: None,
        }
    }
}

/// The keyboard layout of a text such as `0x00000407`, a Windows input locale identifier of 1 to 8
/// hexadecimal digits. An empty text is no layout (`Some(None)`); `None`: it is not one.
#[must_use]
pub fn parse_keyboard_layout(text: &str) -> Option<Option<u32>> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return Some(None);
    }
    let digits = text
        .strip_prefix("0x")
        .filter(|d| (1..=8).contains(&d.len()) && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok().filter(|id| *id != 0).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for value in Clipboard::ALL {
            assert_eq!(Clipboard::parse(value.as_str()), Some(value));
        }
        for source in CredentialSource::ALL {
            assert_eq!(CredentialSource::parse(source.as_str()), Some(source));
        }
        assert_eq!((Clipboard::In.allows_in(), Clipboard::In.allows_out()), (true, false));
        assert_eq!((Clipboard::Out.allows_in(), Clipboard::Out.allows_out()), (false, true));
    }

    #[test]
    fn keyboards_are_read_as_windows_names_them() {
        for (text, id) in [
            ("0x00000407", Some(0x407)),
            ("0X407", Some(0x407)),
            ("0x00020409", Some(0x2_0409)),
            ("", None),
            (" ", None),
        ] {
            assert_eq!(parse_keyboard_layout(text), Some(id), "{text}");
        }
        for bad in ["407", "0x", "0x0", "0x123456789", "0x+407", "german"] {
            assert_eq!(parse_keyboard_layout(bad), None, "{bad}");
        }
    }

    #[test]
    fn fingerprints_are_read_as_people_write_them() {
        let print = Fingerprint([0xab; 32]);
        let plain = "ab".repeat(32);
        for text in
            [print.to_string(), plain.clone(), plain.to_uppercase(), format!("SHA256:{plain}")]
        {
            assert_eq!(Fingerprint::parse(&text), Some(print), "{text}");
        }
        for bad in ["", "ab", &plain[1..], &format!("{plain}00"), &"zz".repeat(32)] {
            assert_eq!(Fingerprint::parse(bad), None, "{bad}");
        }
    }
}
