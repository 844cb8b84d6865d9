//! The demo's web application: a team board of sticky notes, shared by everybody who has it open.
//! It has what a real application has: pages, a WebSocket, upload and download of a file, and the
//! user from the gateway's headers. In memory; it listens on loopback, reached through the demo's
//! agent.

mod server;
mod state;

pub use server::{Running, start};
