//! The use cases, over both databases and a fake fleet.

mod admin;
mod change_feed;
mod change_watcher;
mod endings;
pub mod fixture;
mod launch;
mod peers;
mod reconciler;
mod roles;
mod servers;
mod signin;
mod streams;
mod web;
mod web_config;
