//! The workspace host's agent: enrolment, in-tunnel control API, launcher, forwards.
//!
//! - The **agent** ([`agent`]) runs on a workspace host and keeps one *host tunnel* to the gateway.
//! - The **gateway** calls the agent's control API ([`control`]) inside that tunnel; nothing else
//!   can reach it.
//! - A **desktop** ([`desktop`]) is a display server, TigerVNC or xrdp, with a desktop environment,
//!   in a sandbox, for one session.
//! - A **forward** ([`forward`]) is the session's own tunnel: it ends at that desktop's socket, or
//!   at one service, and nowhere else.
//! - The **session manager** ([`session_manager`]) holds the desktops; starting is idempotent by
//!   session.
//! - **Grace** ([`grace`]) is how long desktops run on without their gateway.
//! - A **service** ([`services`]) is a server of the host's own that its administrator lets
//!   sessions reach, by name.
//! - The **state folder** ([`state`]) is what survives a restart of the agent: its identity, and
//!   the homes of its users.

pub mod agent;
pub mod control;
pub mod desktop;
pub mod enroll;
pub mod forward;
pub mod grace;
pub mod services;
pub mod session_manager;
pub mod state;
mod system;
