//! The host agent: control API over plain streams, real desktops in real sandboxes, and the whole
//! loop through real tunnels.

mod agent_end_to_end;
mod control;
mod desktop;
mod enroll;
mod harness;
mod orphans;
mod rdp;
mod web;
