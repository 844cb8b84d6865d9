//! Headers that tell the application who the user is, and that sign the gateway in on the user's
//! behalf.

use super::error::ProxyError;
use super::grant::AppGrant;
use super::head::IdentityHeaders;
use super::lifecycle::Lifecycle;
use crate::domain::secret::SecretString;
use crate::domain::upstream::{Credential, CredentialSource};
use crate::domain::user::Role;
use crate::domain::web_app::{UpstreamSignIn, WebAppConfig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

const X_FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
const X_FORWARDED_NAME: HeaderName = HeaderName::from_static("x-forwarded-name");
const X_FORWARDED_GROUPS: HeaderName = HeaderName::from_static("x-forwarded-groups");
const X_PORTCULLIS_ASSERTION: HeaderName = HeaderName::from_static("x-portcullis-assertion");

/// How long an assertion is used. It is valid for 60 s, so that at least 30 s remain when the
/// application reads it.
const ASSERTION_REUSE: Duration = Duration::from_secs(30);

/// Identity and sign-in headers of an application, built once; an assertion is renewed.
pub(super) struct UpstreamIdentity {
    /// All but the assertion.
    static_headers: Arc<IdentityHeaders>,
    assertion_audience: Option<String>,
    /// Headers with an assertion, and when that was issued.
    asserted_headers: Mutex<Option<(Instant, Arc<IdentityHeaders>)>>,
}

/// Names hold more than ASCII, so any visible text is accepted.
fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

fn sensitive_value(text: &SecretString) -> Option<HeaderValue> {
    let mut value = header_value(text.expose())?;
    value.set_sensitive(true);
    Some(value)
}

fn basic_credentials(credential: &Credential) -> SecretString {
    let pair =
        SecretString::new(format!("{}:{}", credential.username, credential.password.expose()));
    SecretString::new(format!("Basic {}", STANDARD.encode(pair.expose())))
}

impl UpstreamIdentity {
    /// # Errors
    /// Where the credential for signing in should come from, when there is none.
    pub(super) fn new(config: &WebAppConfig, grant: &AppGrant) -> Result<Self, CredentialSource> {
        let mut fields = Vec::new();
        if config.identity.headers {
            let (email, name, role) = match &grant.caller {
                Some(caller) => (
                    caller.name(),
                    caller.display_name(),
                    caller.role().map_or("system", Role::as_str),
                ),
                None => (grant.lease.session().principal_name.as_str(), "", ""),
            };
            let texts =
                [(X_FORWARDED_USER, email), (X_FORWARDED_NAME, name), (X_FORWARDED_GROUPS, role)];
            fields.extend(
                texts
                    .into_iter()
                    .filter_map(|(field, text)| header_value(text).map(|value| (field, value))),
            );
        }
        let upstream = grant.lease.upstream();
        let required = || upstream.credential_source;
        match &config.sign_in {
            UpstreamSignIn::None => {}
            UpstreamSignIn::Basic => {
                let credential = upstream.credential.as_ref().ok_or_else(required)?;
                let value = sensitive_value(&basic_credentials(credential)).ok_or_else(required)?;
                fields.push((AUTHORIZATION, value));
            }
            UpstreamSignIn::Header(name) => {
                let credential = upstream.credential.as_ref().ok_or_else(required)?;
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| required())?;
                fields.push((name, sensitive_value(&credential.password).ok_or_else(required)?));
            }
        }
        Ok(Self {
            static_headers: Arc::new(IdentityHeaders { fields }),
            assertion_audience: config.identity.assertion_audience.clone(),
            asserted_headers: Mutex::default(),
        })
    }

    /// The headers of a request that is sent now.
    pub(super) async fn headers(
        &self,
        grant: &AppGrant,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<IdentityHeaders>, ProxyError> {
        let Some(audience) = &self.assertion_audience else {
            return Ok(Arc::clone(&self.static_headers));
        };
        Box::pin(lifecycle.unless_ended(self.headers_with_assertion(grant, audience))).await
    }

    async fn headers_with_assertion(
        &self,
        grant: &AppGrant,
        audience: &str,
    ) -> Result<Arc<IdentityHeaders>, ProxyError> {
        // Held while an assertion is issued, so that concurrent requests share it.
        let mut asserted = self.asserted_headers.lock().await;
        if let Some((issued_at, headers)) = &*asserted
            && issued_at.elapsed() < ASSERTION_REUSE
        {
            return Ok(Arc::clone(headers));
        }
        let caller = grant.caller.as_ref().ok_or(ProxyError::AuditUnavailable)?;
        let issued_at = Instant::now();
        let token = grant.broker.web_requests().assert_identity(caller, audience).await.map_err(
            |error| {
                tracing::error!(%error, "application.assertion");
                ProxyError::AuditUnavailable
            },
        )?;
        let mut fields = self.static_headers.fields.clone();
        fields.extend(sensitive_value(&token).map(|value| (X_PORTCULLIS_ASSERTION, value)));
        let headers = Arc::new(IdentityHeaders { fields });
        *asserted = Some((issued_at, Arc::clone(&headers)));
        Ok(headers)
    }
}
