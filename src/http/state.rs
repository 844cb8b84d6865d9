//! State shared by all handlers.

use super::api::definition::Apis;
use super::error::{ApiError, ApiResult};
use super::hub_status::HubProbe;
use super::metrics::Metrics;
use super::rate_limit::{AddressLimiter, UserEventStreams};
use super::settings::Settings;
use crate::broker::Broker;
use crate::viewer;
use actix_web::{HttpRequest, web};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// Most event streams at once; each holds a connection and a broadcast receiver.
const EVENT_STREAMS_MAX: usize = 1024;

/// State shared by all handlers. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub broker: Broker,
    pub viewer: viewer::Context,
    pub settings: Arc<Settings>,
    pub metrics: Arc<Metrics>,
    pub tunnel: HubProbe,
    pub(crate) apis: Apis,
    pub(crate) limits: Arc<Limits>,
    pub(crate) event_streams: Arc<Semaphore>,
    pub(crate) user_event_streams: UserEventStreams,
    draining: Arc<watch::Sender<bool>>,
}

/// Rate limits per address.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) anonymous: AddressLimiter,
    pub(crate) any: AddressLimiter,
}

impl AppState {
    /// `viewer.draining` is replaced, so that streams end on [`AppState::start_draining`].
    #[must_use]
    pub fn new(
        broker: Broker,
        viewer: viewer::Context,
        settings: Settings,
        tunnel: HubProbe,
        apis: Apis,
    ) -> Self {
        let draining = watch::Sender::new(false);
        let viewer = viewer::Context { draining: draining.subscribe(), ..viewer };
        let limits = Limits {
            anonymous: AddressLimiter::new(settings.anonymous_rate),
            any: AddressLimiter::new(settings.any_rate),
        };
        Self {
            broker,
            viewer,
            settings: Arc::new(settings),
            metrics: Arc::new(Metrics::new()),
            tunnel,
            apis,
            limits: Arc::new(limits),
            event_streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
            user_event_streams: UserEventStreams::default(),
            draining: Arc::new(draining),
        }
    }

    /// Closes every open stream: browsers get close code 1001 and reconnect.
    pub fn start_draining(&self) {
        self.draining.send_replace(true);
    }

    /// Becomes true when the gateway stops.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }
}

/// The application's state.
///
/// # Errors
/// 500 when the application has none.
pub fn app_state(req: &HttpRequest) -> ApiResult<web::Data<AppState>> {
    req.app_data::<web::Data<AppState>>().cloned().ok_or_else(ApiError::internal)
}
