//! What the layers ask of a kind. Each kind answers in a file of its own, so that no other file
//! tells kinds apart; a layer with I/O of its own dispatches on what is named here.

use super::fields::{ServerAccess, WorkspaceFields};
use crate::domain::Result;
use crate::domain::route::TargetSpec;
use crate::domain::secret::SecretString;
use crate::domain::upstream::{
    Credential, ProtocolSettings, StreamPolicy, StreamProtocol, TrustRule,
};
use crate::domain::web_app::WebAppConfig;

/// The refusal of a credential or a trust rule for a started desktop.
pub const DESKTOP_HAS_OWN_CREDENTIAL: &str = "A workspace without a target is a desktop that a host starts: its credential and its certificate are its own.";

/// What is the same for every workspace of a kind.
#[derive(Debug)]
pub struct KindProperties {
    /// Its name in APIs, in the store and in the agent's protocol.
    pub name: &'static str,
    /// The icon of a new workspace.
    pub icon: &'static str,
    pub protocol: StreamProtocol,
    /// A host's agent can start a desktop of this kind.
    pub is_started_by_agents: bool,
    /// A workspace can name a server that runs already.
    pub has_server: bool,
    /// The settings of a new workspace.
    pub initial_fields: fn() -> WorkspaceFields,
}

/// How a launch sees that the server is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadinessCheck<'a> {
    /// It sends its ProtocolVersion message (RFC 6143 section 7.1.1).
    RfbGreeting,
    /// It accepts a connection; it speaks after its client.
    Connection,
    /// It answers a request, with a certificate that the rule accepts.
    HttpAnswer { config: &'a WebAppConfig, trust: &'a TrustRule },
}

/// A desktop that a host's agent starts for each session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartedDesktop {
    /// It may use the host's network.
    pub network: bool,
    pub authentication: DesktopAuthentication,
}

/// What the gateway and a started desktop prove to each other. All of it is made for the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DesktopAuthentication {
    /// The gateway has a password.
    Password,
    /// The gateway has an account with a password, and the desktop a certificate.
    AccountAndCertificate,
}

/// The rules of a workspace's kind.
pub trait WorkspaceDriver {
    /// Its settings and the defaults of the others': the reverse of `from_fields`.
    fn fields(&self) -> WorkspaceFields;

    /// Where its server is; `None`: a host's agent starts a desktop.
    fn target(&self) -> Option<&TargetSpec>;

    /// `None`: the gateway neither signs in nor verifies a certificate.
    fn access(&self) -> Option<&ServerAccess>;

    fn policy(&self) -> StreamPolicy;

    fn protocol(&self) -> ProtocolSettings;

    fn readiness(&self) -> ReadinessCheck<'_>;

    /// The desktop to start; `None`: its server runs already.
    fn started_desktop(&self) -> Option<StartedDesktop> {
        None
    }

    fn web_app(&self) -> Option<&WebAppConfig> {
        None
    }

    /// Whether a password of the workspace would be used.
    fn uses_workspace_password(&self) -> bool;

    /// Refuses combinations of its settings that cannot work.
    ///
    /// # Errors
    /// `Invalid`, with a sentence for the administrator.
    fn validate(&self) -> Result<()>;

    /// Whether its protocol can carry this password of the workspace, which is not empty.
    ///
    /// # Errors
    /// `Invalid`, with a sentence for the administrator.
    fn validate_password(&self, _password: &SecretString) -> Result<()> {
        Ok(())
    }

    /// Whether its protocol can carry this credential of a user.
    ///
    /// # Errors
    /// `Invalid`, with a sentence for the user.
    fn validate_credential(&self, credential: &Credential) -> Result<()>;
}
