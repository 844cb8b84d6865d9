//! The web application of a workspace of type `html5`: connection, identity, allowed requests.

use crate::broker::model::WebChange;
use crate::domain::Error;
use crate::domain::web_app::{self, WebAppConfig};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Protocol of the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebScheme {
    /// Plain HTTP inside the session's tunnel.
    Http,
    /// HTTPS inside it; the certificate is checked by `server.trust`.
    Https,
}

/// How the gateway signs in to the application, with the credential of `server.credential`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebSignInBy {
    /// It does not sign in.
    None,
    /// HTTP basic authentication.
    Basic,
    /// A header whose value is the credential's password.
    Header,
}

impl WebSignInBy {
    #[must_use]
    pub fn of(sign_in: &web_app::UpstreamSignIn) -> Self {
        match sign_in {
            web_app::UpstreamSignIn::None => Self::None,
            web_app::UpstreamSignIn::Basic => Self::Basic,
            web_app::UpstreamSignIn::Header(_) => Self::Header,
        }
    }
}

/// How the gateway signs in to the application.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebSignIn {
    /// Method.
    by: WebSignInBy,
    /// `header`: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
}

impl From<web_app::UpstreamSignIn> for WebSignIn {
    fn from(sign_in: web_app::UpstreamSignIn) -> Self {
        let by = WebSignInBy::of(&sign_in);
        match sign_in {
            web_app::UpstreamSignIn::None | web_app::UpstreamSignIn::Basic => {
                Self { by, header: None }
            }
            web_app::UpstreamSignIn::Header(name) => Self { by, header: Some(name) },
        }
    }
}

impl TryFrom<WebSignIn> for web_app::UpstreamSignIn {
    type Error = Error;
    fn try_from(s: WebSignIn) -> Result<Self, Error> {
        match (s.by, s.header) {
            (WebSignInBy::None, None) => Ok(Self::None),
            (WebSignInBy::Basic, None) => Ok(Self::Basic),
            (WebSignInBy::Header, Some(name)) => Ok(Self::Header(name)),
            (WebSignInBy::Header, None) => {
                Err(Error::invalid("web.sign_in by header has the header's name."))
            }
            (WebSignInBy::None | WebSignInBy::Basic, Some(_)) => {
                Err(Error::invalid("web.sign_in has a header only with by: header."))
            }
        }
    }
}

/// Identity of the user that is sent to the application.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WebIdentity {
    /// `X-Forwarded-User`, `X-Forwarded-Name` and `X-Forwarded-Groups`.
    pub headers: bool,
    /// `X-Portcullis-Assertion`: a short-lived JWT for this audience, signed by a key of
    /// `/.well-known/jwks.json`; null: none.
    #[schema(required = true)]
    pub assertion_audience: Option<String>,
}

/// Allowed requests; enforced by the gateway.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WebRequests {
    /// Methods; empty: every one but `CONNECT` and `TRACE`.
    pub methods: Vec<String>,
    /// Path prefixes; empty: every path.
    pub paths: Vec<String>,
    /// File uploads are allowed.
    pub upload: bool,
    /// File downloads are allowed.
    pub download: bool,
    /// Largest request body, bytes; 0: any.
    pub max_request: u64,
}

/// A web application.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebApplication {
    /// Protocol.
    pub scheme: WebScheme,
    /// Its host name, with an optional port; empty: that of the session's origin.
    pub host: String,
    /// Path at which it opens.
    pub start: String,
    /// Identity of the user.
    pub identity: WebIdentity,
    /// How the gateway signs in to it.
    pub sign_in: WebSignIn,
    /// Allowed requests.
    pub requests: WebRequests,
}

impl From<WebAppConfig> for WebApplication {
    fn from(terms: WebAppConfig) -> Self {
        let WebAppConfig { scheme, host, start, identity, sign_in, requests } = terms;
        Self {
            scheme: match scheme {
                web_app::Scheme::Http => WebScheme::Http,
                web_app::Scheme::Https => WebScheme::Https,
            },
            host,
            start,
            identity: WebIdentity {
                headers: identity.headers,
                assertion_audience: identity.assertion_audience,
            },
            sign_in: sign_in.into(),
            requests: WebRequests {
                methods: requests.methods,
                paths: requests.paths,
                upload: requests.upload,
                download: requests.download,
                max_request: requests.max_request,
            },
        }
    }
}

/// A change of the identity.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebIdentityInput {
    /// `X-Forwarded-User`, `X-Forwarded-Name` and `X-Forwarded-Groups`; false in a new workspace.
    headers: Option<bool>,
    /// The audience of a signed assertion; null or empty: none is sent.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    assertion_audience: Option<Option<String>>,
}

/// A change of the allowed requests.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebRequestsInput {
    /// Methods; empty, as in a new workspace: every one but `CONNECT` and `TRACE`, which never
    /// pass.
    methods: Option<Vec<String>>,
    /// Paths, decoded, each with what is below it (`/wiki` allows `/wiki/a`, not `/wikis`); empty,
    /// as in a new workspace: every one.
    paths: Option<Vec<String>>,
    /// Files may go to the application; true in a new workspace.
    upload: Option<bool>,
    /// Files may come out of it; true in a new workspace.
    download: Option<bool>,
    /// Largest request body, bytes; 0, as in a new workspace: any.
    max_request: Option<u64>,
}

/// A change of a web application; missing fields stay as they are. Open ones are closed and reopened
/// with it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebApplicationInput {
    /// Protocol; `http` in a new workspace.
    scheme: Option<WebScheme>,
    /// The name it knows itself by, perhaps with a port: sent as `Host` and as the TLS server name.
    /// Empty, as in a new workspace: the session's own origin's.
    host: Option<String>,
    /// Path at which it opens, such as `/lab`; `/` in a new workspace.
    start: Option<String>,
    /// Identity of the user.
    #[serde(default)]
    identity: WebIdentityInput,
    /// How the gateway signs in to it; `none` in a new workspace, and then no credential is kept.
    sign_in: Option<WebSignIn>,
    /// Allowed requests.
    #[serde(default)]
    requests: WebRequestsInput,
}

/// Distinguishes null from a missing field.
fn nullable<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(d).map(Some)
}

impl TryFrom<WebApplicationInput> for WebChange {
    type Error = Error;
    fn try_from(w: WebApplicationInput) -> Result<Self, Error> {
        Ok(Self {
            scheme: w.scheme.map(|scheme| match scheme {
                WebScheme::Http => web_app::Scheme::Http,
                WebScheme::Https => web_app::Scheme::Https,
            }),
            host: w.host,
            start: w.start,
            identity_headers: w.identity.headers,
            assertion_audience: w.identity.assertion_audience,
            sign_in: w.sign_in.map(web_app::UpstreamSignIn::try_from).transpose()?,
            methods: w.requests.methods,
            paths: w.requests.paths,
            upload: w.requests.upload,
            download: w.requests.download,
            max_request: w.requests.max_request,
        })
    }
}
