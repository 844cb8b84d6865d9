//! An application, opened by one grant: what all its requests share, and its end.

use super::cookies::CookieJar;
use super::error::ProxyError;
use super::identity::UpstreamIdentity;
use super::origin_map::OriginMap;
use super::pool::Pool;
use super::request_log::PendingRefusals;
use super::{AppOrigin, Limits, serve, supervisor};
use crate::broker::Broker;
use crate::broker::core::stream_registry::{StreamGrant, StreamMeters};
use crate::broker::model::TransferRefusal;
use crate::domain::lease::Lease;
use crate::domain::user::{Caller, RequestSource};
use crate::domain::web_app::{RequestRecord, WebAppConfig};
use crate::domain::{LoginId, Result, SessionId};
use crate::viewer::stream_audit::{CertificateCheck, PresentedCertificate, StreamAudit};
use crate::viewer::stream_end::StreamEnd;
use crate::viewer::{Context, Dial};
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// The word of [`App::close`] for an application that nobody used.
const IDLE_REASON: &str = "idle";

/// One application in one login's hands: opened by one grant, served request by request, until its
/// right is lost or it is closed. Dropping the last handle closes it.
pub struct App {
    shared: Arc<Shared>,
}

/// What every request of an application needs.
pub(super) struct Shared {
    broker: Broker,
    dial: Arc<dyn Dial>,
    /// From where it was opened, for the books.
    origin: RequestSource,
    lease: Lease,
    meters: Arc<StreamMeters>,
    caller: Option<Caller>,
    config: WebAppConfig,
    pub(super) app_origin: AppOrigin,
    pub(super) origin_map: OriginMap,
    server_name: String,
    limits: Limits,
    pool: Pool,
    pub(super) cookie_jar: CookieJar,
    pub(super) refusals: PendingRefusals,
    identity: OnceLock<Result<UpstreamIdentity, ProxyError>>,
    /// Places in the queue of requests that are to be written down.
    pub(super) log_queue: mpsc::Sender<RequestRecord>,
    /// Half of the places are taken: those that ended are to be written down without delay.
    pub(super) log_half_full: Notify,
    /// The store did not take the last ones.
    pub(super) log_failing: AtomicBool,
    /// A sign-in was refused, and that is in the log.
    pub(super) sign_in_refused: AtomicBool,
    end: OnceLock<StreamEnd>,
    /// The word of who closed it.
    close_reason: OnceLock<&'static str>,
    /// Cancelled when it has ended.
    end_token: CancellationToken,
    /// Cancelled when its end is written down.
    closed_token: CancellationToken,
    opened_at: Instant,
    last_used_ms: AtomicU64,
}

impl App {
    /// Opens the application of a grant.
    #[must_use]
    pub fn open(
        ctx: &Context,
        from: RequestSource,
        grant: StreamGrant,
        place: AppOrigin,
    ) -> Arc<Self> {
        Self::open_with_limits(ctx, from, grant, place, Limits::default())
    }

    /// [`App::open`] with other limits.
    #[must_use]
    pub fn open_with_limits(
        ctx: &Context,
        from: RequestSource,
        grant: StreamGrant,
        place: AppOrigin,
        limits: Limits,
    ) -> Arc<Self> {
        let by = grant.caller().cloned();
        let StreamGrant { lease, authorization: right, meters, slot: seat } = grant;
        let terms = lease.upstream().web_app.as_deref().cloned().unwrap_or_default();
        let names = OriginMap::new(&place, &terms);
        let (records, queue) = mpsc::channel(limits.requests.max(1));
        let server_name = match terms.host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => name.to_owned(),
            _ => terms.host.clone(),
        };
        let shared = Arc::new(Shared {
            broker: ctx.broker.clone(),
            dial: Arc::clone(&ctx.dial),
            origin: from,
            lease,
            meters,
            caller: by,
            config: terms,
            app_origin: place,
            origin_map: names,
            server_name,
            limits,
            pool: Pool::new(),
            cookie_jar: CookieJar::default(),
            refusals: PendingRefusals::default(),
            identity: OnceLock::new(),
            log_queue: records,
            log_half_full: Notify::new(),
            log_failing: AtomicBool::new(false),
            sign_in_refused: AtomicBool::new(false),
            end: OnceLock::new(),
            close_reason: OnceLock::new(),
            closed_token: CancellationToken::new(),
            end_token: CancellationToken::new(),
            opened_at: Instant::now(),
            last_used_ms: AtomicU64::new(0),
        });
        let told = UpstreamIdentity::new(&shared);
        let _ = shared.identity.set(told);
        supervisor::supervise(Arc::clone(&shared), right, ctx.draining.clone(), seat, queue);
        Arc::new(Self { shared })
    }

    /// Serves one request of whoever holds the application's cookie. Never fails: what goes wrong
    /// is an answer, too. `from`: where the browser is.
    pub async fn serve(
        self: &Arc<Self>,
        request: Request<Incoming>,
        from: IpAddr,
    ) -> Response<super::Body> {
        serve::serve(&self.shared, request, from).await
    }

    /// Whether the application answers now: any answer of HTTP counts, since what it says is its
    /// own matter.
    ///
    /// # Errors
    /// The [`Fault`] that a request would meet.
    pub async fn probe(&self) -> std::result::Result<(), ProxyError> {
        serve::probe(&self.shared).await
    }

    /// Why it ended, once it has.
    #[must_use]
    pub fn end(&self) -> Option<&StreamEnd> {
        self.shared.end.get()
    }

    /// Resolves when it has ended.
    pub async fn ended(&self) {
        self.shared.end_token.cancelled().await;
    }

    /// The login that opened it.
    #[must_use]
    pub fn login(&self) -> LoginId {
        self.shared
            .caller
            .as_ref()
            .map_or(self.shared.lease.session().login_id, |caller| caller.login_id)
    }

    /// Its session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.shared.lease.session().id
    }

    /// When it was last used: a request, a body that moves, a message from the browser. An open tab
    /// is no use, nor are events that come by themselves.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        self.shared.opened_at
            + Duration::from_millis(self.shared.last_used_ms.load(Ordering::Relaxed))
    }

    /// Ends it: whatever is under way is broken off. Resolves when that is written down. `why`: one
    /// word for the audit log; `idle` is told to the user as such.
    pub async fn close(&self, why: &'static str) {
        let _ = self.shared.close_reason.set(why);
        self.shared.terminate(if why == IDLE_REASON {
            StreamEnd::Idle
        } else {
            StreamEnd::BrowserClosed
        });
        self.shared.closed_token.cancelled().await;
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shared.terminate(StreamEnd::BrowserDisconnected);
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("session", &self.session()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(super) fn dial(&self) -> &dyn Dial {
        &*self.dial
    }

    pub(super) fn origin(&self) -> &RequestSource {
        &self.origin
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) fn meters(&self) -> &Arc<StreamMeters> {
        &self.meters
    }

    pub(super) fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    pub(super) fn config(&self) -> &WebAppConfig {
        &self.config
    }

    /// The name said in TLS; empty where an admin gave none.
    pub(super) fn server_name(&self) -> &str {
        &self.server_name
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn identity(&self) -> std::result::Result<&UpstreamIdentity, &ProxyError> {
        match self.identity.get() {
            Some(Ok(told)) => Ok(told),
            Some(Err(fault)) => Err(fault),
            None => Err(&ProxyError::SessionEnded),
        }
    }

    pub(super) fn audit(&self) -> AppAudit<'_> {
        AppAudit(self)
    }

    /// It is used.
    pub(super) fn touch(&self) {
        self.last_used_ms.store(
            u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// Asked several times a request: without the token's lock.
    pub(super) fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    pub(super) fn end_token(&self) -> &CancellationToken {
        &self.end_token
    }

    pub(super) fn end(&self) -> Option<&StreamEnd> {
        self.end.get()
    }

    /// Its end, in a word for the audit log.
    pub(super) fn reason(&self) -> &'static str {
        match (self.end.get(), self.close_reason.get()) {
            (Some(StreamEnd::BrowserClosed | StreamEnd::Idle), Some(word)) => word,
            (Some(end), _) => end.reason_code(),
            (None, _) => "aborted",
        }
    }

    /// Its end is written down, as far as it could be.
    pub(super) fn mark_closed(&self) {
        self.closed_token.cancel();
    }

    /// Ends everything; the first reason stays.
    pub(super) fn terminate(&self, why: StreamEnd) {
        // First the reason: whoever sees the end asks for it.
        let _ = self.end.set(why);
        self.end_token.cancel();
        self.pool.clear();
    }
}

/// The broker's audit log, in the name of whoever opened the application.
pub(super) struct AppAudit<'a>(&'a Shared);

impl StreamAudit for AppAudit<'_> {
    async fn check_certificate(&self, seen: &PresentedCertificate) -> Result<CertificateCheck> {
        self.0.broker.check_certificate(&self.0.origin, &self.0.lease, self.0.caller(), seen).await
    }

    async fn certificate_refused(
        &self,
        seen: &PresentedCertificate,
        why: &'static str,
    ) -> Result<()> {
        self.0
            .broker
            .refuse_certificate(&self.0.origin, &self.0.lease, self.0.caller(), seen, why)
            .await
    }

    async fn login_refused(&self, why: &'static str) -> Result<()> {
        self.0.broker.login_refused(&self.0.origin, &self.0.lease, self.0.caller(), why).await
    }

    async fn destination_refused(&self, asked: &str) -> Result<()> {
        self.0
            .broker
            .destination_refused(&self.0.origin, &self.0.lease, self.0.caller(), asked)
            .await
    }

    async fn transfer_refused(&self, refused: &TransferRefusal) -> Result<()> {
        self.0
            .broker
            .transfer_refused(&self.0.origin, &self.0.lease, self.0.caller(), refused)
            .await
    }
}
