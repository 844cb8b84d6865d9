//! A web application that runs already (HTTP).

use super::driver::{KindProperties, ReadinessCheck, WorkspaceDriver};
use super::fields::{ServerAccess, WorkspaceFields};
use crate::domain::route::TargetSpec;
use crate::domain::secret::SecretString;
use crate::domain::upstream::{
    Credential, CredentialSource, ProtocolSettings, StreamPolicy, StreamProtocol,
};
use crate::domain::web_app::{self, UpstreamSignIn, WebAppConfig};
use crate::domain::{Error, Result};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebApplication {
    pub target: TargetSpec,
    pub access: ServerAccess,
    pub config: WebAppConfig,
}

impl WebApplication {
    pub(super) const PROPERTIES: KindProperties = KindProperties {
        name: "html5",
        icon: "browser",
        protocol: StreamProtocol::Http,
        is_started_by_agents: false,
        has_server: true,
        initial_fields: || WorkspaceFields {
            web_app: WebAppConfig { start: "/".to_owned(), ..WebAppConfig::default() },
            ..WorkspaceFields::default()
        },
    };

    pub(super) fn from_fields(fields: WorkspaceFields) -> Result<Self> {
        let Some(target) = fields.target.clone() else {
            return Err(Error::invalid(
                "A workspace of type html5 names a web application that runs already: give its target.",
            ));
        };
        if fields.policy != StreamPolicy::default() {
            return Err(Error::invalid(
                "policy is for desktops; what may pass to a web application and from it is in web.requests.",
            ));
        }
        fields.refuse_domain_and_keyboard()?;
        fields.refuse_exclusive()?;
        Ok(Self { target, access: ServerAccess::take(fields.upstream), config: fields.web_app })
    }
}

impl WorkspaceDriver for WebApplication {
    fn fields(&self) -> WorkspaceFields {
        WorkspaceFields {
            target: Some(self.target.clone()),
            upstream: self.access.to_fields(),
            web_app: self.config.clone(),
            ..WorkspaceFields::default()
        }
    }

    fn target(&self) -> Option<&TargetSpec> {
        Some(&self.target)
    }

    fn access(&self) -> Option<&ServerAccess> {
        Some(&self.access)
    }

    /// The default: what may pass is in the requests' policy.
    fn policy(&self) -> StreamPolicy {
        StreamPolicy::default()
    }

    fn protocol(&self) -> ProtocolSettings {
        ProtocolSettings::Http(Box::new(self.config.clone()))
    }

    fn readiness(&self) -> ReadinessCheck<'_> {
        ReadinessCheck::HttpAnswer { config: &self.config, trust: &self.access.trust }
    }

    fn web_app(&self) -> Option<&WebAppConfig> {
        Some(&self.config)
    }

    fn uses_workspace_password(&self) -> bool {
        self.access.credential_source == CredentialSource::Workspace
            && self.config.sign_in != UpstreamSignIn::None
    }

    fn validate(&self) -> Result<()> {
        let (access, web) = (&self.access, &self.config);
        if !web.requests.paths.is_empty()
            && !web
                .requests
                .paths
                .iter()
                .any(|prefix| is_under(web_app::path_of(&web.start), prefix))
        {
            return Err(Error::invalid(
                "web.start must be below one of web.requests.paths, or the application could not be opened.",
            ));
        }
        if !web.requests.methods.is_empty()
            && !web.requests.methods.iter().any(|method| method == "GET")
        {
            return Err(Error::invalid(
                "web.requests.methods must hold GET, or the application could not be opened.",
            ));
        }
        match (&web.sign_in, access.credential_source) {
            (UpstreamSignIn::Basic | UpstreamSignIn::Header(_), CredentialSource::Ask) => {
                Err(Error::invalid(
                    "server.credential must be workspace or user: a browser signs in to a web application with every request, not once.",
                ))
            }
            (UpstreamSignIn::None, CredentialSource::User | CredentialSource::Ask) => {
                Err(Error::invalid(
                    "server.credential must be workspace while web.sign_in is none: there is no credential then.",
                ))
            }
            (UpstreamSignIn::None | UpstreamSignIn::Header(_), CredentialSource::Workspace)
                if !access.username.is_empty() =>
            {
                Err(Error::invalid("server.username is for web.sign_in basic."))
            }
            (UpstreamSignIn::Basic, CredentialSource::Workspace) => {
                validate_user_id(&access.username, "server.username")
            }
            (UpstreamSignIn::None | UpstreamSignIn::Header(_), CredentialSource::Workspace)
            | (UpstreamSignIn::Basic | UpstreamSignIn::Header(_), CredentialSource::User) => {
                access.validate("")
            }
        }
    }

    fn validate_password(&self, password: &SecretString) -> Result<()> {
        match &self.config.sign_in {
            UpstreamSignIn::None => Err(Error::invalid(
                "password is for web.sign_in basic or header: without one nothing is proved to the application.",
            )),
            UpstreamSignIn::Basic => Ok(()),
            UpstreamSignIn::Header(_) => validate_field_value(password.expose()),
        }
    }

    fn validate_credential(&self, credential: &Credential) -> Result<()> {
        if !credential.domain.is_empty() {
            return Err(Error::invalid("A web application knows no domain."));
        }
        match &self.config.sign_in {
            UpstreamSignIn::None => {
                Err(Error::invalid("This web application takes no credential from the gateway."))
            }
            UpstreamSignIn::Basic => validate_user_id(&credential.username, "username"),
            UpstreamSignIn::Header(_) if credential.username.is_empty() => {
                validate_field_value(credential.password.expose())
            }
            UpstreamSignIn::Header(_) => Err(Error::invalid(
                "username must be empty: this web application takes one value, the password.",
            )),
        }
    }
}

/// A user-id of RFC 7617 section 2: without a colon, which ends it.
fn validate_user_id(name: &str, what: &str) -> Result<()> {
    if name.is_empty() || name.contains(':') {
        return Err(Error::invalid(format!(
            "{what} must not be empty, nor hold a colon: basic sign-in goes by name."
        )));
    }
    Ok(())
}

/// A field value (RFC 9110 section 5.5), without surrounding spaces or obsolete text.
fn validate_field_value(text: &str) -> Result<()> {
    if text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && text.trim() == text {
        Ok(())
    } else {
        Err(Error::invalid(
            "password must be a header's value: visible ASCII, no spaces around it.",
        ))
    }
}

/// Whether a path is at or below a prefix, by whole segments.
fn is_under(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::is_under;

    #[test]
    fn a_path_is_below_a_prefix_by_whole_segments() {
        assert!(is_under("/wiki", "/wiki"));
        assert!(is_under("/wiki/a", "/wiki"));
        assert!(!is_under("/wikis", "/wiki"));
        assert!(is_under("/x", "/"));
    }
}
