//! Sessions and launches.

use super::tunnel::{TunnelReport, TunnelState};
use super::workspaces::WorkspaceView;
use crate::domain::Timestamp;
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
    /// Until when its user can extend it; `None` when they cannot.
    pub extendable_until: Option<Timestamp>,
    /// `None`: it is not ended for want of input.
    pub idle_end: Option<IdleEnd>,
}

/// When a session ends that gets no input any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdleEnd {
    pub timeout: Duration,
    pub at: Timestamp,
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
    /// With extensions.
    pub max_duration: Duration,
    /// `None`: never.
    pub idle_timeout: Option<Duration>,
    /// The session is one that runs already and does not answer: a new desktop can be started in
    /// its stead.
    pub replacement: Option<Replacement>,
}

/// A new desktop instead of one whose host does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replacement {
    /// It would start on another host, where the user's home folder is another one.
    pub on_another_host: bool,
}

#[derive(Clone, Debug, Default)]
pub struct SessionQuery {
    /// 1 to 500; default 100.
    pub limit: Option<u32>,
    /// Cursor of the previous page.
    pub cursor: Option<String>,
    pub filter: SessionFilter,
}
