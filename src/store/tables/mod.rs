//! Rows and queries of each table, as methods of [`super::Tx`], one file per table (or per pair
//! that is always used together).
//!
//! A row is converted to a domain value at once; an unknown stored value (a damaged or manipulated
//! database) is `Internal`, never a default.

pub mod app_requests;
pub mod audit;
pub(super) mod audit_head;
pub mod audit_search;
pub mod challenges;
pub mod gateway_lease;
pub mod hosts;
pub mod join_tokens;
pub mod keys;
mod live_sessions;
pub mod logins;
pub mod organizations;
pub mod purge;
pub mod seats;
pub mod session_leases;
mod session_limits;
pub mod sessions;
pub mod tickets;
pub mod totp;
pub mod upstreams;
pub mod users;
mod web_apps;
pub mod workspaces;

use crate::domain::principal::PrincipalId;
use crate::domain::user::{Mfa, MfaMethod};
use crate::domain::{Error, Result, Timestamp};
use std::str::FromStr;

/// A stored value that does not parse.
fn corrupt_value(what: &str) -> Error {
    Error::internal(format!("the database holds a {what} that does not read"))
}

fn parse_text<T: FromStr>(text: &str, what: &str) -> Result<T> {
    text.parse().map_err(|_| corrupt_value(what))
}

fn parse_optional<T: FromStr>(text: Option<&str>, what: &str) -> Result<Option<T>> {
    text.map(|text| parse_text(text, what)).transpose()
}

/// A verified factor from its two columns.
fn parse_mfa(method: Option<&str>, verified_at: Option<i64>) -> Result<Option<Mfa>> {
    match (method, verified_at) {
        (None, None) => Ok(None),
        (Some(word), Some(at)) => {
            let method = MfaMethod::parse(word).ok_or_else(|| corrupt_value("factor"))?;
            Ok(Some(Mfa { method, verified_at: Timestamp(at) }))
        }
        _ => Err(corrupt_value("factor")),
    }
}

/// A principal from its columns.
fn parse_principal(kind: &str, user: Option<&str>, api_key: Option<&str>) -> Result<PrincipalId> {
    let user = parse_optional(user, "user id")?;
    let api_key = parse_optional(api_key, "API key id")?;
    PrincipalId::from_parts(kind, user, api_key).ok_or_else(|| corrupt_value("principal"))
}

/// The databases count in BIGINT.
fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
