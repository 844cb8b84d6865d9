//! What a session's other end is asked before its launch counts as done: whether it is there, and
//! answers as its kind does.

use crate::broker::fleet::{DesktopOrder, FleetError, Unanswered};
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
pub(super) enum Question {
    /// RFB's server greets.
    Greeting,
    /// A server of RDP, having taken the connection, waits for its client.
    Nothing,
    /// A web application answers a request.
    Web(Box<Web>),
}

/// What a web application is asked.
pub(super) struct Web {
    terms: WebAppConfig,
    trust: UpstreamTrust,
    address: IpAddr,
}

impl Question {
    pub(super) fn of(order: &DesktopOrder) -> Self {
        match order.workspace.kind {
            WorkspaceKind::Linux | WorkspaceKind::Vnc => Self::Greeting,
            WorkspaceKind::Rdp => Self::Nothing,
            WorkspaceKind::Html5 => {
                let terms = &order.workspace.upstream;
                let pin = if terms.trust == TrustRule::FirstUse { order.pin } else { None };
                let trust = UpstreamTrust { rule: terms.trust.clone(), pin };
                Self::Web(Box::new(Web {
                    terms: terms.web_app.clone(),
                    trust,
                    address: order.address,
                }))
            }
        }
    }

    /// Asks it on a stream that was just opened.
    pub(super) async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<(), FleetError> {
        match self {
            Self::Greeting => greeted(stream).await,
            Self::Nothing => Ok(()),
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
    pub(super) fn failed(&self, error: TunnelError) -> FleetError {
        match (self, &error) {
            (Self::Web(_), TunnelError::Refused) => Unanswered::Down.into(),
            (Self::Web(_), TunnelError::TimedOut) => Unanswered::Slow.into(),
            _ => super::failed(error),
        }
    }

    /// Why none came about to a direct target.
    pub(super) fn unreached(&self, error: &io::Error) -> FleetError {
        match (self, error.kind()) {
            (Self::Web(_), io::ErrorKind::ConnectionRefused) => Unanswered::Down.into(),
            (Self::Web(_), io::ErrorKind::TimedOut) => Unanswered::Slow.into(),
            _ => FleetError::Failed(error.to_string()),
        }
    }

    /// What an agent's refusal says.
    pub(super) fn told(&self, error: ClientError) -> FleetError {
        match (self, &error) {
            (Self::Web(_), ClientError::Refused { status: control::SERVICE_DOWN, .. }) => {
                Unanswered::Down.into()
            }
            (Self::Web(_), ClientError::Refused { status: control::SERVICE_SLOW, .. }) => {
                Unanswered::Slow.into()
            }
            _ => super::told(error),
        }
    }
}

/// Reads the greeting of a desktop's server.
async fn greeted(mut stream: impl AsyncRead + Unpin) -> Result<(), FleetError> {
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
