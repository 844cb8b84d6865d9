//! Readiness of an upstream: a launch has succeeded once the upstream answers as its kind does.

use super::conversions;
use crate::broker::ports::host_fleet::{DesktopOrder, FleetError, ProbeFailure};
use crate::domain::upstream::{TrustRule, UpstreamTrust};
use crate::domain::web_app::WebAppConfig;
use crate::domain::workspace::ReadinessCheck;
use crate::host::control::{self, ClientError};
use crate::tunnel::TunnelError;
use crate::viewer::probe::{self, HttpProbe};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Beginning of an RFB server's ProtocolVersion message (RFC 6143 section 7.1.1).
const GREETING: &[u8; 4] = b"RFB ";
/// Longest answer of a web application, including the TLS handshake. Below the default limit of a
/// launch, so that its own error is reported.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

pub(super) enum ReadinessProbe {
    /// The RFB server sends its version.
    RfbGreeting,
    /// An RDP server accepts the connection, and then waits for its client.
    Connection,
    /// A web application answers a request.
    Web(Box<WebProbe>),
}

pub(super) struct WebProbe {
    config: WebAppConfig,
    trust: UpstreamTrust,
    address: IpAddr,
}

impl ReadinessProbe {
    pub(super) fn for_order(order: &DesktopOrder) -> Self {
        match order.workspace.driver().readiness() {
            ReadinessCheck::RfbGreeting => Self::RfbGreeting,
            ReadinessCheck::Connection => Self::Connection,
            ReadinessCheck::HttpAnswer { config, trust } => {
                let pin = if *trust == TrustRule::FirstUse { order.pin } else { None };
                Self::Web(Box::new(WebProbe {
                    config: config.clone(),
                    trust: UpstreamTrust { rule: trust.clone(), pin },
                    address: order.address,
                }))
            }
        }
    }

    /// Runs the probe on a stream that was just opened.
    pub(super) async fn run(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<(), FleetError> {
        match self {
            Self::RfbGreeting => read_greeting(stream).await,
            Self::Connection => Ok(()),
            Self::Web(web) => {
                let http = HttpProbe {
                    config: &web.config,
                    trust: &web.trust,
                    address: web.address,
                    timeout: ANSWER_TIMEOUT,
                };
                Ok(probe::probe_http(stream, http).await?)
            }
        }
    }

    /// The failure to connect inside a tunnel.
    pub(super) fn tunnel_error(&self, error: TunnelError) -> FleetError {
        match (self, &error) {
            (Self::Web(_), TunnelError::Refused) => ProbeFailure::Down.into(),
            (Self::Web(_), TunnelError::TimedOut) => ProbeFailure::Slow.into(),
            _ => conversions::tunnel_error(error),
        }
    }

    /// The failure to connect to a direct target.
    pub(super) fn connect_error(&self, error: &io::Error) -> FleetError {
        match (self, error.kind()) {
            (Self::Web(_), io::ErrorKind::ConnectionRefused) => ProbeFailure::Down.into(),
            (Self::Web(_), io::ErrorKind::TimedOut) => ProbeFailure::Slow.into(),
            _ => FleetError::Failed(error.to_string()),
        }
    }

    /// An agent's refusal.
    pub(super) fn agent_error(&self, error: ClientError) -> FleetError {
        match (self, &error) {
            (Self::Web(_), ClientError::Refused { status: control::SERVICE_DOWN, .. }) => {
                ProbeFailure::Down.into()
            }
            (Self::Web(_), ClientError::Refused { status: control::SERVICE_SLOW, .. }) => {
                ProbeFailure::Slow.into()
            }
            _ => conversions::control_error(error),
        }
    }
}

async fn read_greeting(mut stream: impl AsyncRead + Unpin) -> Result<(), FleetError> {
    let mut greeting = [0; 12];
    stream
        .read_exact(&mut greeting)
        .await
        .map_err(|_| FleetError::Failed("its server sent nothing".to_owned()))?;
    if greeting.starts_with(GREETING) {
        Ok(())
    } else {
        Err(FleetError::Failed("its server does not speak RFB".to_owned()))
    }
}
