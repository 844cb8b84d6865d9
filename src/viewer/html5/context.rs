//! What the requests of one opened application share.

use super::error::ProxyError;
use super::grant::AppGrant;
use super::head::{HeadRewriter, IdentityHeaders};
use super::identity::UpstreamIdentity;
use super::lifecycle::Lifecycle;
use super::limits::Limits;
use super::pool::Pool;
use super::request_log::RequestLog;
use crate::domain::upstream::CredentialSource;
use crate::domain::web_app::WebAppConfig;
use crate::viewer::Dial;
use crate::viewer::stream_end::StreamEnd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the requests of one opened application share.
pub(super) struct AppContext {
    pub(super) grant: AppGrant,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) upstream: UpstreamClient,
    pub(super) rewriter: HeadRewriter,
    pub(super) log: RequestLog,
}

/// How the application is reached and signed in to.
pub(super) struct UpstreamClient {
    pub(super) config: WebAppConfig,
    pub(super) dial: Arc<dyn Dial>,
    /// Server name for TLS; empty: the address is verified instead.
    pub(super) server_name: String,
    pub(super) limits: Limits,
    pub(super) pool: Arc<Pool>,
    /// An error names the source of the credential that is missing.
    pub(super) identity: Result<UpstreamIdentity, CredentialSource>,
    /// The application refused the sign-in, and that is in the audit log.
    pub(super) sign_in_refused: AtomicBool,
}

impl AppContext {
    /// The identity headers of a request that is sent now.
    pub(super) async fn identity_headers(&self) -> Result<Arc<IdentityHeaders>, ProxyError> {
        match &self.upstream.identity {
            Ok(identity) => identity.headers(&self.grant, &self.lifecycle).await,
            Err(source) => Err(ProxyError::CredentialRequired(*source)),
        }
    }

    /// Ends the application and closes its connections. The first end is kept.
    pub(super) fn terminate(&self, end: StreamEnd) {
        self.lifecycle.set_end(end);
        self.upstream.pool.close();
    }
}
