//! The gateway's side of the hosts and their tunnels: implements the broker's port to the hosts
//! ([`crate::broker::ports::host_fleet::HostFleet`]) and the viewer's port to upstreams
//! ([`crate::viewer::Dial`]) on a [`crate::tunnel::Hub`] and the agents' control API.
//!
//! - A **host** has a tunnel and a monitor task, which polls its agent for changes, so that a
//!   silent host and the end of a desktop are noticed by themselves.
//! - A **session** on a host with an agent has a tunnel of its own, and the tunnel's configuration
//!   is kept to create it again when its host moves.
//! - A **standard peer** has a tunnel that the sessions on it share (see `shared`); its monitor
//!   sends probes, since there is no agent to poll.
//! - All of it is in memory; the broker stores what a restart needs and restores it with
//!   [`crate::broker::ports::host_fleet::HostFleet::restore`].

mod conversions;
mod host_monitor;
mod hub_fleet;
mod launch;
mod metrics;
mod rtt;
mod sessions;
mod shared;
mod state;

pub use host_monitor::CHANGES_MIN_INTERVAL;
pub use hub_fleet::HubFleet;
pub use state::FleetConfig;
