//! The configuration of a web application, as JSON in its workspace's row. Missing members have
//! their default; unknown ones are an error.

use super::corrupt_value;
use crate::domain::Result;
use crate::domain::web_app::{
    IdentityForwarding, RequestPolicy, Scheme, UpstreamSignIn, WebAppConfig,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebAppJson {
    scheme: String,
    host: String,
    start: String,
    identity_headers: bool,
    assertion_audience: Option<String>,
    sign_in: String,
    sign_in_header: Option<String>,
    methods: Vec<String>,
    paths: Vec<String>,
    upload: bool,
    download: bool,
    max_request: u64,
}

impl Default for WebAppJson {
    fn default() -> Self {
        Self::from_config(&WebAppConfig::default())
    }
}

impl WebAppJson {
    pub(super) fn from_config(terms: &WebAppConfig) -> Self {
        let WebAppConfig { scheme, host, start, identity, sign_in, requests } = terms.clone();
        let (sign_in, sign_in_header) = match sign_in {
            UpstreamSignIn::None => ("none", None),
            UpstreamSignIn::Basic => ("basic", None),
            UpstreamSignIn::Header(name) => ("header", Some(name)),
        };
        Self {
            scheme: scheme.as_str().to_owned(),
            host,
            start,
            identity_headers: identity.headers,
            assertion_audience: identity.assertion_audience,
            sign_in: sign_in.to_owned(),
            sign_in_header,
            methods: requests.methods,
            paths: requests.paths,
            upload: requests.upload,
            download: requests.download,
            max_request: requests.max_request,
        }
    }

    pub(super) fn into_config(self) -> Result<WebAppConfig> {
        let sign_in = match (self.sign_in.as_str(), self.sign_in_header) {
            ("none", None) => UpstreamSignIn::None,
            ("basic", None) => UpstreamSignIn::Basic,
            ("header", Some(name)) => UpstreamSignIn::Header(name),
            _ => return Err(corrupt_value("sign-in of a web application")),
        };
        Ok(WebAppConfig {
            scheme: Scheme::parse(&self.scheme)
                .ok_or_else(|| corrupt_value("scheme of a web application"))?,
            host: self.host,
            start: self.start,
            identity: IdentityForwarding {
                headers: self.identity_headers,
                assertion_audience: self.assertion_audience,
            },
            sign_in,
            requests: RequestPolicy {
                methods: self.methods,
                paths: self.paths,
                upload: self.upload,
                download: self.download,
                max_request: self.max_request,
            },
        })
    }
}
