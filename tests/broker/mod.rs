//! The use cases, over both databases and a fake fleet.

mod admin;
mod bad_hosts;
mod change_feed;
mod change_watcher;
mod endings;
pub mod fixture;
mod launch;
mod peers;
mod placement;
mod reconciler;
mod refusals;
mod servers;
mod session_times;
mod signin;
mod signin_limits;
mod started_desktops;
mod streams;
mod use_cases_by_role;
mod web;
mod web_config;
