//! Workspace hosts: enrolment of agents, and standard WireGuard peers.

pub(in crate::broker) mod enroll;
mod peers;
