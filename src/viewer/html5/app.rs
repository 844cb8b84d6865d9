//! The handle of an application opened by one grant.

use super::context::{AppContext, UpstreamClient};
use super::grant::AppGrant;
use super::head::HeadRewriter;
use super::identity::UpstreamIdentity;
use super::lifecycle::Lifecycle;
use super::limits::Limits;
use super::origin_map::AppOrigin;
use super::pool::Pool;
use super::request_log::RequestLog;
use super::supervisor;
use crate::broker::core::stream_registry::StreamGrant;
use crate::domain::user::RequestSource;
use crate::domain::{LoginId, SessionId};
use crate::viewer::Context;
use crate::viewer::stream_end::StreamEnd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// The reason of [`App::close`] for an application that was not used.
const IDLE_REASON: &str = "idle";

/// An application opened by one grant, for one login. It serves requests until its authorization is
/// lost or it is closed; dropping the last handle closes it.
pub struct App {
    pub(super) context: Arc<AppContext>,
}

impl App {
    /// Opens the application of a grant. `source`: of the request that opens it.
    #[must_use]
    pub fn open(
        ctx: &Context,
        source: RequestSource,
        grant: StreamGrant,
        origin: AppOrigin,
    ) -> Arc<Self> {
        Self::open_with_limits(ctx, source, grant, origin, Limits::default())
    }

    /// [`App::open`] with other limits.
    #[must_use]
    pub fn open_with_limits(
        ctx: &Context,
        source: RequestSource,
        grant: StreamGrant,
        origin: AppOrigin,
        limits: Limits,
    ) -> Arc<Self> {
        let caller = grant.caller().cloned();
        let StreamGrant { lease, authorization, meters, slot } = grant;
        let config = lease.upstream().web_app().cloned().unwrap_or_default();
        let lifecycle = Arc::new(Lifecycle::new(Arc::clone(&meters.input)));
        let grant = AppGrant { broker: ctx.broker.clone(), source, lease, caller, meters };
        let (log, queue) = RequestLog::new(limits.requests);
        let context = Arc::new(AppContext {
            rewriter: HeadRewriter::new(&origin, &config),
            lifecycle,
            upstream: UpstreamClient {
                identity: UpstreamIdentity::new(&config, &grant),
                server_name: server_name(&config.host).to_owned(),
                dial: Arc::clone(&ctx.dial),
                pool: Pool::new(),
                sign_in_refused: AtomicBool::new(false),
                config,
                limits,
            },
            grant,
            log,
        });
        let draining = ctx.draining.clone();
        supervisor::spawn(Arc::clone(&context), authorization, draining, slot, queue);
        Arc::new(Self { context })
    }

    /// Why it ended, once it has.
    #[must_use]
    pub fn end(&self) -> Option<&StreamEnd> {
        self.context.lifecycle.end()
    }

    /// Resolves when it has ended.
    pub async fn ended(&self) {
        self.context.lifecycle.ended().await;
    }

    /// The login that opened it.
    #[must_use]
    pub fn login(&self) -> Option<LoginId> {
        self.context.grant.login_id()
    }

    #[must_use]
    pub fn session(&self) -> SessionId {
        self.context.grant.session_id()
    }

    /// When it was last used: a request, progress of a body, or a message from the browser. An open
    /// tab is no use, nor are events that the application sends by itself.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        self.context.lifecycle.last_used()
    }

    /// Ends it, and aborts requests in progress. Resolves when the close is in the audit log.
    /// `reason`: a code for the audit log; `idle` also chooses the page that the user reads.
    pub async fn close(&self, reason: &'static str) {
        self.context.lifecycle.set_close_reason(reason);
        let is_idle = reason == IDLE_REASON;
        self.context.terminate(if is_idle { StreamEnd::Idle } else { StreamEnd::BrowserClosed });
        self.context.lifecycle.closed().await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.context.terminate(StreamEnd::BrowserDisconnected);
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("session", &self.session()).finish_non_exhaustive()
    }
}

/// The name without the port of `name` or `name:port`; an IPv6 address keeps its brackets.
fn server_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}
