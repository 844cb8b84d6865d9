//! The workspaces there are, and where each can run.

pub(in crate::broker) mod placement;
pub(in crate::broker) mod workspaces;
