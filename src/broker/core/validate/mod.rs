//! Validation of input. Every error says what would be accepted.

mod credential;
mod fields;
mod session_limits;
#[cfg(test)]
mod tests;
mod web;
mod workspace;

pub(in crate::broker) use credential::{validate_credential, validate_upstream_password};
pub(in crate::broker) use fields::{
    convert, email, name, page, page_limit, parse_cursor, parse_seq, version,
};
pub(in crate::broker) use workspace::{apply_change, workspace, workspace_ids};
