//! The initiation gate and what it uses.

#[path = "../../../../src/tunnel/hub/counters.rs"]
#[allow(dead_code)]
mod counters;
#[path = "../../../../src/tunnel/hub/endpoints.rs"]
mod endpoints;
#[path = "../../../../src/tunnel/hub/initiation_gate.rs"]
mod initiation_gate;
pub mod initiations;
