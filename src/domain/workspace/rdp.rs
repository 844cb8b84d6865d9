//! A Windows or xrdp desktop (RDP): one that a host's agent starts for each session, or a server
//! that runs already.

use super::driver::{
    DESKTOP_HAS_OWN_CREDENTIAL, DesktopAuthentication, KindProperties, ReadinessCheck,
    StartedDesktop, WorkspaceDriver,
};
use super::fields::{STARTED_DESKTOP_ACCESS, ServerAccess, UpstreamFields, WorkspaceFields};
use crate::domain::route::TargetSpec;
use crate::domain::upstream::{
    Credential, CredentialSource, ProtocolSettings, StreamPolicy, StreamProtocol,
};
use crate::domain::{Error, Result};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RdpDesktop {
    pub server: RdpServer,
    /// The layout sent to the server (a Windows input locale identifier); `None`: the browser's.
    pub keyboard_layout: Option<u32>,
    pub policy: StreamPolicy,
}

/// Where an RDP desktop comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RdpServer {
    /// An agent starts it, with an account and a certificate for the session.
    Started {
        /// The desktop may use the host's network.
        network: bool,
    },
    Existing {
        target: TargetSpec,
        access: ServerAccess,
        /// Windows domain of the workspace's account; empty: the server's local accounts.
        domain: String,
    },
}

impl RdpDesktop {
    pub(super) const PROPERTIES: KindProperties = KindProperties {
        name: "rdp",
        icon: "windows",
        protocol: StreamProtocol::Rdp,
        is_started_by_agents: true,
        has_server: true,
        initial_fields: WorkspaceFields::default,
    };

    pub(super) fn from_fields(fields: WorkspaceFields) -> Result<Self> {
        fields.refuse_web_app()?;
        if fields.target.is_some() {
            fields.refuse_exclusive()?;
        }
        let WorkspaceFields { target, network, policy, upstream, web_app: _ } = fields;
        let keyboard_layout = upstream.keyboard_layout;
        let server = match target {
            Some(target) => {
                let domain = upstream.domain.clone();
                RdpServer::Existing { target, access: ServerAccess::take(upstream), domain }
            }
            None if upstream == UpstreamFields { keyboard_layout, ..UpstreamFields::default() } => {
                RdpServer::Started { network }
            }
            None => return Err(Error::invalid(DESKTOP_HAS_OWN_CREDENTIAL)),
        };
        Ok(Self { server, keyboard_layout, policy })
    }
}

impl WorkspaceDriver for RdpDesktop {
    fn fields(&self) -> WorkspaceFields {
        let (target, network, upstream) = match &self.server {
            RdpServer::Started { network } => (None, *network, UpstreamFields::default()),
            RdpServer::Existing { target, access, domain } => (
                Some(target.clone()),
                false,
                UpstreamFields { domain: domain.clone(), ..access.to_fields() },
            ),
        };
        WorkspaceFields {
            target,
            network,
            policy: self.policy,
            upstream: UpstreamFields { keyboard_layout: self.keyboard_layout, ..upstream },
            ..WorkspaceFields::default()
        }
    }

    fn target(&self) -> Option<&TargetSpec> {
        match &self.server {
            RdpServer::Started { .. } => None,
            RdpServer::Existing { target, .. } => Some(target),
        }
    }

    fn access(&self) -> Option<&ServerAccess> {
        match &self.server {
            RdpServer::Started { .. } => Some(&STARTED_DESKTOP_ACCESS),
            RdpServer::Existing { access, .. } => Some(access),
        }
    }

    fn policy(&self) -> StreamPolicy {
        self.policy
    }

    fn protocol(&self) -> ProtocolSettings {
        ProtocolSettings::Rdp { keyboard_layout: self.keyboard_layout }
    }

    fn readiness(&self) -> ReadinessCheck<'_> {
        ReadinessCheck::Connection
    }

    fn started_desktop(&self) -> Option<StartedDesktop> {
        match self.server {
            RdpServer::Started { network } => Some(StartedDesktop {
                network,
                authentication: DesktopAuthentication::AccountAndCertificate,
            }),
            RdpServer::Existing { .. } => None,
        }
    }

    fn uses_workspace_password(&self) -> bool {
        match &self.server {
            RdpServer::Started { .. } => false,
            RdpServer::Existing { access, .. } => {
                access.credential_source == CredentialSource::Workspace
            }
        }
    }

    fn validate(&self) -> Result<()> {
        match &self.server {
            RdpServer::Started { .. } => Ok(()),
            RdpServer::Existing { access, domain, .. } => access.validate(domain),
        }
    }

    fn validate_credential(&self, credential: &Credential) -> Result<()> {
        if credential.username.is_empty() {
            Err(Error::invalid("username must not be empty: RDP signs in by name."))
        } else {
            Ok(())
        }
    }
}
