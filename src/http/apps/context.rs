//! What all connections of the apps domain share, and what handlers need of a request.

use super::settings::AppsSettings;
use super::table::AppTable;
use crate::domain::user::RequestSource;
use crate::http::forwarded::{ForwardedFields, client_address};
use crate::http::state::AppState;
use hyper::header::{self, HeaderMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Longest interval between checks for idle applications.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// What all connections share.
pub(in crate::http) struct Apps {
    pub(super) settings: AppsSettings,
    pub(super) table: AppTable,
    /// Runs the tasks that outlive a connection.
    pub(super) runtime: Handle,
}

impl Apps {
    pub(in crate::http) fn new(settings: AppsSettings, runtime: Handle) -> Self {
        Self { settings, table: AppTable::default(), runtime }
    }

    /// Closes applications that are not used, until the gateway drains.
    pub(in crate::http) async fn close_idle(self: Arc<Self>, state: AppState) {
        let every = (self.settings.idle / 4).clamp(Duration::from_millis(50), SWEEP_INTERVAL_MAX);
        let mut draining = state.draining();
        while tokio::time::timeout(every, draining.wait_for(|draining| *draining)).await.is_err() {
            for app in self.table.sweep(self.settings.idle, Instant::now()) {
                app.close("idle").await;
            }
        }
    }
}

/// What handlers need of a request, beside the request itself.
pub(super) struct RequestContext<'a> {
    pub(super) state: &'a AppState,
    pub(super) apps: &'a Arc<Apps>,
    /// Address of the TCP peer.
    pub(super) peer: Option<IpAddr>,
}

impl RequestContext<'_> {
    /// Source of the request, for the audit log.
    pub(super) fn source(&self, headers: &HeaderMap) -> RequestSource {
        let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        RequestSource {
            request_id: uuid::Uuid::now_v7().to_string(),
            source_ip: self.client_address(headers),
            user_agent: agent.map(|agent| agent.chars().take(256).collect()),
        }
    }

    /// Address of the client, behind trusted proxies.
    pub(super) fn client_address(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines = |name| headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
        let fields = ForwardedFields {
            x_forwarded_for: lines("x-forwarded-for").collect(),
            forwarded: lines("forwarded").collect(),
        };
        let settings = &self.state.settings;
        let (trusted, believed) = (&settings.trusted_proxies, settings.proxy_header);
        self.peer.map(|peer| client_address(peer, &fields, trusted, believed))
    }
}
