//! The use cases, over both databases and a fake fleet.

mod admin;
mod endings;
mod launch;
mod peers;
mod reaper;
mod roles;
mod sentinel;
mod servers;
mod signin;
mod streams;
mod web;
mod web_terms;
pub mod world;
