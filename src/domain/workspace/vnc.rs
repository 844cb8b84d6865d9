//! A VNC server that runs already (RFB).

use super::driver::{KindProperties, ReadinessCheck, WorkspaceDriver};
use super::fields::{ServerAccess, UpstreamFields, WorkspaceFields};
use crate::domain::route::TargetSpec;
use crate::domain::upstream::{
    Credential, CredentialSource, ProtocolSettings, StreamPolicy, StreamProtocol,
};
use crate::domain::{Error, Result};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VncServer {
    pub target: TargetSpec,
    pub access: ServerAccess,
    /// Other clients of the same desktop are disconnected.
    pub exclusive: bool,
    pub policy: StreamPolicy,
}

impl VncServer {
    pub(super) const PROPERTIES: KindProperties = KindProperties {
        name: "vnc",
        icon: "desktop",
        protocol: StreamProtocol::Rfb,
        is_started_by_agents: false,
        has_server: true,
        initial_fields: WorkspaceFields::default,
    };

    pub(super) fn from_fields(fields: WorkspaceFields) -> Result<Self> {
        fields.refuse_web_app()?;
        fields.refuse_domain_and_keyboard()?;
        let WorkspaceFields { target, policy, upstream, .. } = fields;
        let target = target.ok_or_else(|| {
            Error::invalid("A workspace of type vnc names a server: give its target.")
        })?;
        let exclusive = upstream.exclusive;
        Ok(Self { target, access: ServerAccess::take(upstream), exclusive, policy })
    }
}

impl WorkspaceDriver for VncServer {
    fn fields(&self) -> WorkspaceFields {
        WorkspaceFields {
            target: Some(self.target.clone()),
            policy: self.policy,
            upstream: UpstreamFields { exclusive: self.exclusive, ..self.access.to_fields() },
            ..WorkspaceFields::default()
        }
    }

    fn target(&self) -> Option<&TargetSpec> {
        Some(&self.target)
    }

    fn access(&self) -> Option<&ServerAccess> {
        Some(&self.access)
    }

    fn policy(&self) -> StreamPolicy {
        self.policy
    }

    fn protocol(&self) -> ProtocolSettings {
        ProtocolSettings::Rfb { exclusive: self.exclusive }
    }

    fn readiness(&self) -> ReadinessCheck<'_> {
        ReadinessCheck::RfbGreeting
    }

    fn uses_workspace_password(&self) -> bool {
        self.access.credential_source == CredentialSource::Workspace
    }

    fn validate(&self) -> Result<()> {
        self.access.validate("")
    }

    fn validate_credential(&self, credential: &Credential) -> Result<()> {
        if credential.domain.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid("VNC knows no domain."))
        }
    }
}
