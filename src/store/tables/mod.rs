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
pub mod servers;
pub mod session_leases;
pub mod sessions;
pub mod tickets;
pub mod totp;
pub mod users;
mod web_terms;
pub mod workspaces;

use crate::domain::user::{Mfa, MfaMethod};
use crate::domain::{Error, Result, Timestamp};
use std::str::FromStr;

/// A stored text that does not read.
fn unreadable(what: &str) -> Error {
    Error::internal(format!("the database holds a {what} that does not read"))
}

/// A stored text as a value.
fn read<T: FromStr>(text: &str, what: &str) -> Result<T> {
    text.parse().map_err(|_| unreadable(what))
}

/// A stored text, where there is one, as a value.
fn read_option<T: FromStr>(text: Option<&str>, what: &str) -> Result<Option<T>> {
    text.map(|text| read(text, what)).transpose()
}

/// A verified factor from its two columns.
fn read_mfa(method: Option<&str>, verified_at: Option<i64>) -> Result<Option<Mfa>> {
    match (method, verified_at) {
        (None, None) => Ok(None),
        (Some(word), Some(at)) => {
            let method = MfaMethod::parse(word).ok_or_else(|| unreadable("factor"))?;
            Ok(Some(Mfa { method, verified_at: Timestamp(at) }))
        }
        _ => Err(unreadable("factor")),
    }
}

/// Limits are given as counts; the databases count in BIGINT.
fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
