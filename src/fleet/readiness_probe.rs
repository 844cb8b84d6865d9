//! What a session's other end is asked before its launch counts as done: whether it is there, and
//! answers as its kind does.

use crate::broker::ports::host_fleet::{DesktopOrder, FleetError, ProbeFailure};
use crate::domain::upstream::{TrustRule, UpstreamTrust};
use crate::domain::web_app::WebAppConfig;
use crate::domain::workspace::WorkspaceKind;
use crate::host::control::{self, ClientError};
use crate::tunnel::TunnelError;
use crate::viewer::probe::{self, HttpProbe};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// What a desktop's server greets with (RFC 6143 section 7.1.1), before its version.
const GREETING: &[u8; 4] = b"RFB ";
/// How long a web application may take to answer, its TLS handshake included. Below the usual limit
/// of a launch, so that its own error is told.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// See the module.
pub(super) enum ReadinessProbe {
    /// RFB's server greets.
    RfbGreeting,
    /// A server of RDP, having taken the connection, waits for its client.
    Connection,
    /// A web application answers a request.
    Web(Box<WebProbe>),
}

/// What a web application is asked.
pub(super) struct WebProbe {
    terms: WebAppConfig,
    trust: UpstreamTrust,
    address: IpAddr,
}

impl ReadinessProbe {
    pub(super) fn for_order(order: &DesktopOrder) -> Self {
        match order.workspace.kind {
            WorkspaceKind::Linux | WorkspaceKind::Vnc => Self::RfbGreeting,
            WorkspaceKind::Rdp => Self::Connection,
            WorkspaceKind::Html5 => {
                let terms = &order.workspace.upstream;
                let pin = if terms.trust == TrustRule::FirstUse { order.pin } else { None };
                let trust = UpstreamTrust { rule: terms.trust.clone(), pin };
                Self::Web(Box::new(WebProbe {
                    terms: terms.web_app.clone(),
                    trust,
                    address: order.address,
                }))
            }
        }
    }

    /// Asks it on a stream that was just opened.
    pub(super) async fn run(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<(), FleetError> {
        match self {
            Self::RfbGreeting => read_greeting(stream).await,
            Self::Connection => Ok(()),
            Self::Web(web) => {
                let expected = HttpProbe {
                    config: &web.terms,
                    trust: &web.trust,
                    address: web.address,
                    timeout: ANSWER_TIMEOUT,
                };
                Ok(probe::probe_http(stream, expected).await?)
            }
        }
    }

    /// Why no connection came about inside a tunnel.
    pub(super) fn tunnel_error(&self, error: TunnelError) -> FleetError {
        match (self, &error) {
            (Self::Web(_), TunnelError::Refused) => ProbeFailure::Down.into(),
            (Self::Web(_), TunnelError::TimedOut) => ProbeFailure::Slow.into(),
            _ => super::tunnel_error(error),
        }
    }

    /// Why none came about to a direct target.
    pub(super) fn connect_error(&self, error: &io::Error) -> FleetError {
        match (self, error.kind()) {
            (Self::Web(_), io::ErrorKind::ConnectionRefused) => ProbeFailure::Down.into(),
            (Self::Web(_), io::ErrorKind::TimedOut) => ProbeFailure::Slow.into(),
            _ => FleetError::Failed(error.to_string()),
        }
    }

    /// What an agent's refusal says.
    pub(super) fn agent_error(&self, error: ClientError) -> FleetError {
        match (self, &error) {
            (Self::Web(_), ClientError::Refused { status: control::SERVICE_DOWN, .. }) => {
                ProbeFailure::Down.into()
            }
            (Self::Web(_), ClientError::Refused { status: control::SERVICE_SLOW, .. }) => {
                ProbeFailure::Slow.into()
            }
            _ => super::control_error(error),
        }
    }
}

/// Reads the greeting of a desktop's server.
async fn read_greeting(mut stream: impl AsyncRead + Unpin) -> Result<(), FleetError> {
    let mut greeting = [0; 12];
    stream
        .read_exact(&mut greeting)
        .await
        .map_err(|_| FleetError::Failed("its server said nothing".to_owned()))?;
    if greeting.starts_with(GREETING) {
        Ok(())
    } else {
        Err(FleetError::Failed("its server does not speak RFB".to_owned()))
    }
}
