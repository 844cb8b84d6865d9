//! The kinds of workspaces. A kind is a line in each of the lists here and a file of its own.

use super::driver::{KindProperties, WorkspaceDriver};
use super::fields::{UpstreamFields, WorkspaceFields};
use super::linux_desktop::LinuxDesktop;
use super::rdp::RdpDesktop;
use super::vnc::VncServer;
use super::web_application::WebApplication;
use crate::domain::upstream::StreamProtocol;
use crate::domain::web_app::WebAppConfig;
use crate::domain::{Error, Result};
use serde::{Deserialize, Serialize};

/// The kind of a workspace, which decides the protocol of its stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceKind {
    /// A Linux desktop that a host agent starts for the session (RFB).
    Linux,
    /// An existing VNC server (RFB).
    Vnc,
    /// A Windows or xrdp desktop (RDP).
    Rdp,
    /// A web application (HTTP).
    Html5,
}

/// A workspace's kind, with the kind's own settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkspaceSpec {
    LinuxDesktop(LinuxDesktop),
    Vnc(VncServer),
    Rdp(RdpDesktop),
    WebApp(WebApplication),
}

impl WorkspaceKind {
    pub const ALL: [Self; 4] = [Self::Linux, Self::Vnc, Self::Rdp, Self::Html5];

    #[must_use]
    pub fn properties(self) -> &'static KindProperties {
        match self {
            Self::Linux => &LinuxDesktop::PROPERTIES,
            Self::Vnc => &VncServer::PROPERTIES,
            Self::Rdp => &RdpDesktop::PROPERTIES,
            Self::Html5 => &WebApplication::PROPERTIES,
        }
    }

    /// Its name in APIs and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.properties().name
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == name)
    }

    #[must_use]
    pub fn protocol(self) -> StreamProtocol {
        self.properties().protocol
    }

    /// The names of the kinds that `which` selects, for a sentence: `vnc, rdp or html5` with the
    /// conjunction `or`.
    #[must_use]
    pub fn list_names(which: impl Fn(&KindProperties) -> bool, conjunction: &str) -> String {
        let names: Vec<&str> = Self::ALL
            .into_iter()
            .map(Self::properties)
            .filter(|kind| which(kind))
            .map(|kind| kind.name)
            .collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} {conjunction} {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

impl WorkspaceSpec {
    /// Takes the kind's own settings out of the fields.
    ///
    /// # Errors
    /// `Invalid` when one is missing, or belongs to another kind. Combinations are not looked at:
    /// [`WorkspaceDriver::validate`].
    pub fn from_fields(kind: WorkspaceKind, fields: WorkspaceFields) -> Result<Self> {
        if !kind.properties().has_server {
            refuse_server(&fields)?;
        }
        Ok(match kind {
            WorkspaceKind::Linux => Self::LinuxDesktop(LinuxDesktop::from_fields(&fields)),
            WorkspaceKind::Vnc => Self::Vnc(VncServer::from_fields(fields)?),
            WorkspaceKind::Rdp => Self::Rdp(RdpDesktop::from_fields(fields)?),
            WorkspaceKind::Html5 => Self::WebApp(WebApplication::from_fields(fields)?),
        })
    }

    #[must_use]
    pub fn kind(&self) -> WorkspaceKind {
        match self {
            Self::LinuxDesktop(_) => WorkspaceKind::Linux,
            Self::Vnc(_) => WorkspaceKind::Vnc,
            Self::Rdp(_) => WorkspaceKind::Rdp,
            Self::WebApp(_) => WorkspaceKind::Html5,
        }
    }

    #[must_use]
    pub fn driver(&self) -> &dyn WorkspaceDriver {
        match self {
            Self::LinuxDesktop(spec) => spec,
            Self::Vnc(spec) => spec,
            Self::Rdp(spec) => spec,
            Self::WebApp(spec) => spec,
        }
    }
}

/// Refuses a server's fields for a kind that has none.
fn refuse_server(fields: &WorkspaceFields) -> Result<()> {
    let kinds = || WorkspaceKind::list_names(|kind| kind.has_server, "or");
    if fields.target.is_some() {
        return Err(Error::invalid(format!(
            "Only a workspace of type {} has a target: it names a server that runs already.",
            kinds()
        )));
    }
    if fields.upstream != UpstreamFields::default() || fields.web_app != WebAppConfig::default() {
        return Err(Error::invalid(format!("Only a workspace of type {} has a server.", kinds())));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
