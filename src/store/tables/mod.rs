//! Each table's rows and queries, as methods of [`super::Tx`], one file a table (or a pair that is
//! always used together).
//!
//! A row becomes a domain value at once; a stored word that nobody wrote (a damaged or doctored
//! database) is `Internal`, never a guess.

pub mod app_requests;
pub mod audit;
pub mod challenges;
pub mod hosts;
pub mod join_tokens;
pub mod keys;
pub mod logins;
pub mod organizations;
pub mod purge;
pub mod refresh;
pub mod session_leases;
pub mod sessions;
pub mod tickets;
pub mod totp;
pub mod upstreams;
pub mod users;
mod web_apps;
pub mod workspaces;

use crate::domain::user::{Mfa, MfaMethod};
use crate::domain::{Error, Result, Timestamp};
use std::str::FromStr;

/// A stored text that does not read.
fn corrupt_value(what: &str) -> Error {
    Error::internal(format!("the database holds a {what} that does not read"))
}

/// A stored text as a value.
fn parse_text<T: FromStr>(text: &str, what: &str) -> Result<T> {
    text.parse().map_err(|_| corrupt_value(what))
}

/// A stored text, where there is one, as a value.
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

/// Limits are given as counts; the databases count in BIGINT.
fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
