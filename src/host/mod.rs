//! The workspace host's agent: enrolment, in-tunnel control API, launcher, forwards.
