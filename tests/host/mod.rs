//! The host agent: control API over plain streams, real desktops in real sandboxes, and the whole
//! loop through real tunnels.

mod control;
mod desktop;
mod enroll;
mod orphans;
mod rdp;
mod rig;
mod web;
mod whole;
