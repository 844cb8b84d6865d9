//! Sessions and launches.

use super::tunnel::{TunnelReport, TunnelState};
use super::workspaces::WorkspaceView;
use crate::domain::route::HopLatencies;
use crate::domain::session::{Session, SessionFilter};
use crate::domain::upstream::StreamPolicy;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct SessionView {
    pub session: Session,
    /// Down for a closed session.
    pub tunnel: TunnelReport,
    /// Round trip between browser and gateway, while a stream is open.
    pub browser_rtt: Option<Duration>,
    pub viewers: usize,
    /// The workspace's present policy; `None` when the workspace is gone.
    pub policy: Option<StreamPolicy>,
}

impl SessionView {
    #[must_use]
    pub fn tunnel_state(&self) -> TunnelState {
        self.tunnel.state
    }

    /// Round-trip time of each segment of the path.
    #[must_use]
    pub fn segments(&self) -> HopLatencies {
        HopLatencies {
            browser: self.browser_rtt,
            host: self.tunnel.rtt,
            desktop: self.tunnel.desktop_rtt,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Launched {
    pub session: SessionView,
    pub workspace: WorkspaceView,
    pub max_duration: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct SessionQuery {
    /// 1 to 500; default 100.
    pub limit: Option<u32>,
    /// Cursor of the previous page.
    pub cursor: Option<String>,
    pub filter: SessionFilter,
}
