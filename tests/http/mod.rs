//! The gateway over real TLS, on a loopback port: what anybody can send, and what must come back.

mod apps;
mod attacks;
mod audit;
mod audit_tampered;
mod auth;
mod browser;
mod connections;
mod cookies;
mod input;
mod known_browser;
mod live_sessions;
mod matrix;
mod openapi;
mod openapi_answers;
mod ops;
mod organizations;
mod pages;
mod searches;
mod second_api;
mod secrets;
mod session_times;
mod shapes;
mod stream;
mod upstreams;
mod web;
mod workspaces;
