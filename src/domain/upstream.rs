//! The server behind a workspace's stream: what may pass to and from it, the gateway's credential
//! for it, and how its certificate is verified.
//!
//! | term | meaning |
//! | --- | --- |
//! | [`StreamPolicy`] | what the stream may carry, enforced on the wire |
//! | [`Credential`] | what the gateway authenticates with; the browser never receives it |
//! | [`TrustRule`] | how the upstream's certificate is verified, as an administrator chose |
//! | [`StreamProtocol`], [`ProtocolSettings`] | the protocol of the stream, and its settings |
//! | [`Fingerprint`] | SHA-256 of a certificate in DER; a *pin* is the expected one |

use super::secret::SecretString;
use super::web_app::WebAppConfig;
use std::fmt;

/// The allowed directions of clipboard text. *In* is from the user's machine into the desktop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Clipboard {
    None,
    In,
    Out,
    #[default]
    Both,
}

impl Clipboard {
    pub const ALL: [Self; 4] = [Self::None, Self::In, Self::Out, Self::Both];

    /// Its name in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "both",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.as_str() == name)
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
    /// Clipboard text in both directions and input; no files.
    fn default() -> Self {
        Self { clipboard: Clipboard::Both, files: false, read_only: false }
    }
}

/// Where the credential for an upstream comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CredentialSource {
    /// One for the workspace, stored sealed.
    #[default]
    Workspace,
    /// One per user and workspace, stored sealed.
    User,
    /// The user enters it in the viewer; used once, never stored.
    Ask,
}

impl CredentialSource {
    pub const ALL: [Self; 3] = [Self::Workspace, Self::User, Self::Ask];

    /// Its name in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::User => "user",
            Self::Ask => "ask",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }
}

/// What the gateway authenticates with at an upstream.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Account name; empty where the protocol has none (RFB's VncAuth).
    pub username: String,
    /// Windows domain; empty: the upstream's local accounts.
    pub domain: String,
    pub password: SecretString,
}

impl Credential {
    #[must_use]
    pub fn password(password: SecretString) -> Self {
        Self { username: String::new(), domain: String::new(), password }
    }
}

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Parses 64 hexadecimal digits, with or without colons between the bytes, and with an optional
    /// prefix `sha256:`.
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
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How an upstream's certificate is verified.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TrustRule {
    /// The first certificate is pinned; another is refused until an administrator accepts it.
    #[default]
    FirstUse,
    Pinned(Fingerprint),
    /// A certificate issued by these authorities, for this name if there is one.
    Authority {
        /// Certificates of authorities, PEM.
        roots: String,
        /// The name the certificate must be valid for; `None`: any name these authorities issue
        /// for.
        name: Option<String>,
    },
}

/// What is known of an upstream's certificate before the handshake.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamTrust {
    pub rule: TrustRule,
    /// The pin that was recorded or accepted, for [`TrustRule::FirstUse`].
    pub pin: Option<Fingerprint>,
}

/// The protocol of a workspace's stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StreamProtocol {
    /// Remote Framebuffer (RFC 6143).
    Rfb,
    /// Remote Desktop Protocol (MS-RDPBCGR).
    Rdp,
    /// Requests to a web application, each relayed by itself (RFC 9110).
    Http,
}

impl StreamProtocol {
    /// The server's port in a session's own tunnel.
    #[must_use]
    pub const fn tunnel_port(self) -> u16 {
        match self {
            Self::Rfb => 5900,
            Self::Rdp => 3389,
            Self::Http => 80,
        }
    }

    /// Whether the server has one screen, which everybody connected to it shares.
    #[must_use]
    pub fn has_screen(self) -> bool {
        match self {
            Self::Rfb | Self::Rdp => true,
            Self::Http => false,
        }
    }
}

/// The settings of a stream's protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProtocolSettings {
    Rfb {
        /// Other clients of the same desktop are disconnected (shared flag 0 in ClientInit, RFC
        /// 6143 section 7.3.1).
        exclusive: bool,
    },
    Rdp {
        /// The keyboard layout sent to the server (a Windows input locale identifier, `0x00000407`
        /// is German); `None`: the browser's.
        keyboard_layout: Option<u32>,
    },
    Http(Box<WebAppConfig>),
}

/// The configuration of a stream's upstream at the moment the stream was granted.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub port: u16,
    /// `None`: the user must be asked.
    pub credential: Option<Credential>,
    pub credential_source: CredentialSource,
    pub trust: UpstreamTrust,
    pub policy: StreamPolicy,
    pub protocol: ProtocolSettings,
}

impl Upstream {
    /// An RFB desktop that an agent started: a password of its own, no certificate to verify, and
    /// no restriction but the stream policy.
    #[must_use]
    pub fn agent_started(port: u16, password: SecretString, policy: StreamPolicy) -> Self {
        Self {
            port,
            credential: Some(Credential::password(password)),
            credential_source: CredentialSource::Workspace,
            trust: UpstreamTrust::default(),
            policy,
            protocol: ProtocolSettings::Rfb { exclusive: false },
        }
    }

    /// The configuration of a web application; `None`: it is a desktop.
    #[must_use]
    pub fn web_app(&self) -> Option<&WebAppConfig> {
        match &self.protocol {
            ProtocolSettings::Http(config) => Some(config),
            ProtocolSettings::Rfb { .. } | ProtocolSettings::Rdp { .. } => None,
        }
    }
}

/// Parses a keyboard layout such as `0x00000407`, a Windows input locale identifier of 1 to 8
/// hexadecimal digits. An empty text is no layout (`Some(None)`); `None`: it does not parse.
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
    fn names_round_trip() {
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
    fn keyboard_layouts_parse() {
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
    fn fingerprints_parse_in_common_notations() {
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
