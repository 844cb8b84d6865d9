//! Workspace hosts: enrolment of agents, and standard WireGuard peers.

pub mod enroll;
pub(in crate::broker) mod gateway_identity;
pub mod peers;
