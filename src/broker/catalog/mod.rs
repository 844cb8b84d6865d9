//! The workspaces there are, and where each can run.

pub(in crate::broker) mod fleet_snapshot;
pub(in crate::broker) mod placement;
mod workspace_details;
pub(in crate::broker) mod workspace_view;
pub mod workspaces;
