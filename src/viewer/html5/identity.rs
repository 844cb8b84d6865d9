//! What the application is told of the user, and how the gateway signs in to it in the user's
//! place.

use super::app::Shared;
use super::error::ProxyError;
use super::head::IdentityHeaders;
use super::serve::unless_ended;
use crate::domain::secret::SecretString;
use crate::domain::upstream::Credential;
use crate::domain::web_app::UpstreamSignIn;
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

/// An assertion lives a minute; one is sent for half of it, so that it reaches the application with
/// time to spare.
const ASSERTION_REUSE: Duration = Duration::from_secs(30);

/// What is said to the application, made once and, where an assertion is in it, anew twice a
/// minute.
pub(super) struct UpstreamIdentity {
    static_headers: Arc<IdentityHeaders>,
    asserted_headers: Mutex<Option<(Instant, Arc<IdentityHeaders>)>>,
}

/// A value of any visible text: names hold more than ASCII.
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
    /// From the lease and whoever opened it.
    pub(super) fn new(shared: &Shared) -> Result<Self, ProxyError> {
        let terms = shared.config();
        let mut fields = Vec::new();
        if terms.identity.headers {
            let (email, name, role) = match shared.caller() {
                Some(caller) => (
                    caller.user.email.as_str(),
                    caller.user.name.as_str(),
                    caller.user.role.as_str(),
                ),
                None => (shared.lease().session().user_email.as_str(), "", ""),
            };
            let said =
                [(X_FORWARDED_USER, email), (X_FORWARDED_NAME, name), (X_FORWARDED_GROUPS, role)];
            fields.extend(
                said.into_iter()
                    .filter_map(|(field, text)| header_value(text).map(|value| (field, value))),
            );
        }
        let server = shared.lease().upstream();
        let required = || ProxyError::CredentialRequired(server.credential_source);
        match &terms.sign_in {
            UpstreamSignIn::None => {}
            UpstreamSignIn::Basic => {
                let credential = server.credential.as_ref().ok_or_else(required)?;
                fields.push((
                    AUTHORIZATION,
                    sensitive_value(&basic_credentials(credential)).ok_or_else(required)?,
                ));
            }
            UpstreamSignIn::Header(name) => {
                let credential = server.credential.as_ref().ok_or_else(required)?;
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| required())?;
                fields.push((name, sensitive_value(&credential.password).ok_or_else(required)?));
            }
        }
        Ok(Self {
            static_headers: Arc::new(IdentityHeaders { fields }),
            asserted_headers: Mutex::default(),
        })
    }

    /// What is said now.
    pub(super) async fn headers(
        &self,
        shared: &Shared,
    ) -> Result<Arc<IdentityHeaders>, ProxyError> {
        let Some(audience) = &shared.config().identity.assertion_audience else {
            return Ok(Arc::clone(&self.static_headers));
        };
        Box::pin(unless_ended(shared, self.headers_with_assertion(shared, audience))).await
    }

    async fn headers_with_assertion(
        &self,
        shared: &Shared,
        audience: &str,
    ) -> Result<Arc<IdentityHeaders>, ProxyError> {
        // One is made at a time: those who come meanwhile wait for it.
        let mut asserted = self.asserted_headers.lock().await;
        if let Some((made, said)) = &*asserted
            && made.elapsed() < ASSERTION_REUSE
        {
            return Ok(Arc::clone(said));
        }
        let caller = shared.caller().ok_or(ProxyError::AuditUnavailable)?;
        let made = Instant::now();
        let token = shared.broker().assert_identity(caller, audience).await.map_err(|error| {
            tracing::error!(%error, "application.assertion");
            ProxyError::AuditUnavailable
        })?;
        let mut fields = self.static_headers.fields.clone();
        fields.extend(sensitive_value(&token).map(|value| (X_PORTCULLIS_ASSERTION, value)));
        let said = Arc::new(IdentityHeaders { fields });
        *asserted = Some((made, Arc::clone(&said)));
        Ok(said)
    }
}
