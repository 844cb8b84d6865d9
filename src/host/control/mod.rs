//! The in-tunnel control API: HTTP/1.1 with JSON, on port 7000 of the host's tunnel address.
//!
//! | request | response |
//! | --- | --- |
//! | `GET /v1/health` | [`Health`] |
//! | `GET /v1/desktops` | array of [`DesktopInfo`] |
//! | `GET /v1/changes?since=N` | [`Changes`], once something has changed since `N`, or after a few seconds |
//! | `POST /v1/desktops` [`Order`] | [`Started`]; the same desktop for the same session |
//! | `DELETE /v1/desktops/{session_id}` | 204; also when there is none |
//!
//! Errors are `{"detail":"..."}`. The tunnel authenticates the caller: only the gateway's key
//! reaches this port. Client and server run over any byte stream;
//! bodies, headers and waits have limits.

mod client;
mod messages;
mod server;

pub use client::{Client, ClientError};
pub use messages::{
    BODY_MAX, Changes, DesktopInfo, ErrorBody, FULL, GRACE_MAX, Health, INVALID, Memory, NAME_MAX,
    Order, OrderTunnel, OrderWorkspace, PORT, PROTOCOL, READ_TIMEOUT, Refusal, SERVICE_DOWN,
    SERVICE_SLOW, ServiceHealth, Slots, Started, WATCH_WAIT,
};
pub(super) use server::not_started_here;
pub use server::{ControlHandler, serve, serve_within};
