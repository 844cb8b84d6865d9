//! What the application is told of the user, and how the gateway signs in to it in the user's
//! place.

use super::app::Shared;
use super::fault::Fault;
use super::head::Said;
use super::serve::unless_over;
use crate::domain::secret::SecretString;
use crate::domain::server::Credential;
use crate::domain::web::SignIn;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

const USER: HeaderName = HeaderName::from_static("x-forwarded-user");
const NAME: HeaderName = HeaderName::from_static("x-forwarded-name");
const GROUPS: HeaderName = HeaderName::from_static("x-forwarded-groups");
const ASSERTION: HeaderName = HeaderName::from_static("x-portcullis-assertion");

/// An assertion lives a minute; one is sent for half of it, so that it reaches the application with
/// time to spare.
const ASSERTED_FOR: Duration = Duration::from_secs(30);

/// What is said to the application, made once and, where an assertion is in it, anew twice a
/// minute.
pub(super) struct Told {
    fixed: Arc<Said>,
    asserted: Mutex<Option<(Instant, Arc<Said>)>>,
}

/// A value of any visible text: names hold more than ASCII.
fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

fn secret(text: &SecretString) -> Option<HeaderValue> {
    let mut value = value(text.expose())?;
    value.set_sensitive(true);
    Some(value)
}

fn basic(credential: &Credential) -> SecretString {
    let pair =
        SecretString::new(format!("{}:{}", credential.username, credential.password.expose()));
    SecretString::new(format!("Basic {}", STANDARD.encode(pair.expose())))
}

impl Told {
    /// From the lease and whoever opened it.
    pub(super) fn new(shared: &Shared) -> Result<Self, Fault> {
        let terms = shared.terms();
        let mut fields = Vec::new();
        if terms.identity.headers {
            let (email, name, role) = match shared.by() {
                Some(caller) => (
                    caller.user.email.as_str(),
                    caller.user.name.as_str(),
                    caller.user.role.as_str(),
                ),
                None => (shared.lease().session().user_email.as_str(), "", ""),
            };
            let said = [(USER, email), (NAME, name), (GROUPS, role)];
            fields.extend(
                said.into_iter()
                    .filter_map(|(field, text)| value(text).map(|value| (field, value))),
            );
        }
        let server = shared.lease().server();
        let required = || Fault::CredentialRequired(server.source);
        match &terms.sign_in {
            SignIn::None => {}
            SignIn::Basic => {
                let credential = server.credential.as_ref().ok_or_else(required)?;
                fields.push((AUTHORIZATION, secret(&basic(credential)).ok_or_else(required)?));
            }
            SignIn::Header(name) => {
                let credential = server.credential.as_ref().ok_or_else(required)?;
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| required())?;
                fields.push((name, secret(&credential.password).ok_or_else(required)?));
            }
        }
        Ok(Self { fixed: Arc::new(Said { fields }), asserted: Mutex::default() })
    }

    /// What is said now.
    pub(super) async fn now(&self, shared: &Shared) -> Result<Arc<Said>, Fault> {
        let Some(audience) = &shared.terms().identity.assertion_audience else {
            return Ok(Arc::clone(&self.fixed));
        };
        Box::pin(unless_over(shared, self.asserted(shared, audience))).await
    }

    async fn asserted(&self, shared: &Shared, audience: &str) -> Result<Arc<Said>, Fault> {
        // One is made at a time: those who come meanwhile wait for it.
        let mut asserted = self.asserted.lock().await;
        if let Some((made, said)) = &*asserted
            && made.elapsed() < ASSERTED_FOR
        {
            return Ok(Arc::clone(said));
        }
        let caller = shared.by().ok_or(Fault::Unrecorded)?;
        let made = Instant::now();
        let token = shared.broker().assert_identity(caller, audience).await.map_err(|error| {
            tracing::error!(%error, "application.assertion");
            Fault::Unrecorded
        })?;
        let mut fields = self.fixed.fields.clone();
        fields.extend(secret(&token).map(|value| (ASSERTION, value)));
        let said = Arc::new(Said { fields });
        *asserted = Some((made, Arc::clone(&said)));
        Ok(said)
    }
}
