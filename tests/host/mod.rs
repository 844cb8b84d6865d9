//! The host agent: the control API over in-memory streams, desktops in their sandboxes, and both
//! through tunnels.

mod agent_end_to_end;
mod agent_process;
mod control;
mod desktop;
mod enroll;
mod gateway_harness;
mod harness;
mod hostile;
mod limits;
mod network;
mod orphans;
mod rdp;
mod scripted_agent;
mod services;
mod web;
