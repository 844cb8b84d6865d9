//! An RDP stream with a browser that the test controls.

use super::super::harness::{FnDialer, Harness, lease_to, pipe_dial};
use super::super::recording_audit::RecordingAudit;
use crate::support::xfreerdp::Xfreerdp;
use futures_util::future::FutureExt;
use portcullis::domain::OrganizationId;
use portcullis::domain::secret::SecretString;
use portcullis::domain::upstream::{
    Credential, CredentialSource, ProtocolSettings, StreamPolicy, Upstream, UpstreamTrust,
};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::viewer::rdp::cleanpath::destination;
use portcullis::viewer::{Duplex, Timeouts};
use std::time::Duration;
use tokio::net::TcpStream;

/// Time limit of any step of a real desktop, on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// An upstream whose first certificate is pinned.
pub fn server(credential: Option<(&str, &str)>) -> Upstream {
    Upstream {
        port: 3389,
        credential: credential.map(|(username, password)| Credential {
            username: username.into(),
            domain: String::new(),
            password: SecretString::new(password.into()),
        }),
        credential_source: CredentialSource::User,
        trust: UpstreamTrust::default(),
        policy: StreamPolicy::default(),
        protocol: ProtocolSettings::Rdp { keyboard_layout: None },
    }
}

/// A stream to a server, and the destination that its page names.
pub struct OpenedStream {
    pub stream: Harness,
    pub destination: String,
}

/// To a server that the test controls: [`Harness::desktop`] is its end.
pub fn scripted(server: Upstream, timeouts: Timeouts, audit: RecordingAudit) -> OpenedStream {
    let lease = lease_to(OrganizationId::new(), WorkspaceKind::Rdp, server);
    let destination = destination(lease.session().id);
    let (dial, connections) = pipe_dial();
    OpenedStream {
        stream: Harness::with_lease(lease, dial, connections, timeouts, audit),
        destination,
    }
}

/// To a real server.
pub fn real(server: Upstream, port: u16, audit: RecordingAudit) -> OpenedStream {
    let lease = lease_to(OrganizationId::new(), WorkspaceKind::Rdp, server);
    let destination = destination(lease.session().id);
    let dial = FnDialer(move || {
        async move { Ok(Box::new(TcpStream::connect(("127.0.0.1", port)).await?) as Box<dyn Duplex>) }.boxed()
    });
    OpenedStream {
        stream: Harness::with_lease(lease, dial, pipe_dial().1, Timeouts::default(), audit),
        destination,
    }
}

impl OpenedStream {
    /// With FreeRDP as the browser.
    pub async fn with_client(mut self, arguments: &[&str]) -> (Harness, Xfreerdp) {
        let stream = self.stream.browser_stream();
        let client = Xfreerdp::start(stream, self.destination, arguments).await;
        (self.stream, client)
    }
}
