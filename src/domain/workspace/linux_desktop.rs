//! A Linux desktop that a host's agent starts for each session (RFB).

use super::driver::{
    DesktopAuthentication, KindProperties, ReadinessCheck, StartedDesktop, WorkspaceDriver,
};
use super::fields::{ServerAccess, WorkspaceFields};
use crate::domain::Result;
use crate::domain::route::TargetSpec;
use crate::domain::upstream::{Credential, ProtocolSettings, StreamPolicy, StreamProtocol};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinuxDesktop {
    /// The desktop may use the host's network.
    pub network: bool,
    pub policy: StreamPolicy,
}

impl LinuxDesktop {
    pub(super) const PROPERTIES: KindProperties = KindProperties {
        name: "linux",
        icon: "desktop",
        protocol: StreamProtocol::Rfb,
        is_started_by_agents: true,
        has_server: false,
        initial_fields: WorkspaceFields::default,
    };

    pub(super) fn from_fields(fields: &WorkspaceFields) -> Self {
        Self { network: fields.network, policy: fields.policy }
    }
}

impl WorkspaceDriver for LinuxDesktop {
    fn fields(&self) -> WorkspaceFields {
        WorkspaceFields { network: self.network, policy: self.policy, ..WorkspaceFields::default() }
    }

    fn target(&self) -> Option<&TargetSpec> {
        None
    }

    fn access(&self) -> Option<&ServerAccess> {
        None
    }

    fn policy(&self) -> StreamPolicy {
        self.policy
    }

    fn protocol(&self) -> ProtocolSettings {
        ProtocolSettings::Rfb { exclusive: false }
    }

    fn readiness(&self) -> ReadinessCheck<'_> {
        ReadinessCheck::RfbGreeting
    }

    fn started_desktop(&self) -> Option<StartedDesktop> {
        Some(StartedDesktop {
            network: self.network,
            authentication: DesktopAuthentication::Password,
        })
    }

    fn uses_workspace_password(&self) -> bool {
        false
    }

    fn validate(&self) -> Result<()> {
        Ok(())
    }

    fn validate_credential(&self, _credential: &Credential) -> Result<()> {
        Ok(())
    }
}
