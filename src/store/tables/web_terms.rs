//! How a web application is met, as JSON in its workspace's row. What is not there is as in new
//! terms; what nobody wrote does not read.

use super::unreadable;
use crate::domain::Result;
use crate::domain::web::{Identity, RequestPolicy, Scheme, SignIn, WebTerms};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Web {
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

impl Default for Web {
    fn default() -> Self {
        Self::of(&WebTerms::default())
    }
}

impl Web {
    pub(super) fn of(terms: &WebTerms) -> Self {
        let WebTerms { scheme, host, start, identity, sign_in, requests } = terms.clone();
        let (sign_in, sign_in_header) = match sign_in {
            SignIn::None => ("none", None),
            SignIn::Basic => ("basic", None),
            SignIn::Header(name) => ("header", Some(name)),
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

    pub(super) fn into_terms(self) -> Result<WebTerms> {
        let sign_in = match (self.sign_in.as_str(), self.sign_in_header) {
            ("none", None) => SignIn::None,
            ("basic", None) => SignIn::Basic,
            ("header", Some(name)) => SignIn::Header(name),
            _ => return Err(unreadable("sign-in of a web application")),
        };
        Ok(WebTerms {
            scheme: Scheme::parse(&self.scheme)
                .ok_or_else(|| unreadable("scheme of a web application"))?,
            host: self.host,
            start: self.start,
            identity: Identity {
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
