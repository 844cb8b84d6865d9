//! Nouns and rules, without I/O: what everything else in Portcullis is about.
//!
//! | file | what it answers |
//! | --- | --- |
//! | [`id`] | how things are named |
//! | [`time`] | what a moment is, and who says what time it is |
//! | [`network`] | a range of addresses |
//! | [`sync`] | locking without poisoning |
//! | [`secret`] | values that must never be printed |
//! | [`error`] | the kinds of failure every edge can map |
//! | [`user`] | who: users, roles, callers, where a request came from |
//! | [`workspace`] | what can be launched |
//! | [`host`] | where workspaces run |
//! | [`server`] | the server behind a stream: who the gateway is to it, how it is trusted, what may pass |
//! | [`web`] | how a web application is met, and which requests may pass |
//! | [`reach`] | which way a stream goes to its desktop, and which leg of it is slow |
//! | [`session`] | a live, audited connection of a user to a workspace, and its state machine |
//! | [`policy`] | who may do what: the only place that makes a [`policy::Permit`] |
//! | [`lease`] | the proof that a stream may be opened, carrying its target |
//! | [`audit`] | what happened, chained so that it can be proved |

pub mod audit;
pub mod error;
pub mod host;
pub mod id;
pub mod lease;
pub mod network;
pub mod policy;
pub mod route;
pub mod secret;
pub mod session;
pub mod sync;
pub mod time;
pub mod upstream;
pub mod user;
pub mod web_app;
pub mod workspace;

pub use error::{Error, ErrorKind, Result};
pub use id::{HostId, LoginId, OrganizationId, SessionId, UserId, WorkspaceId};
pub use network::Network;
pub use time::{Clock, Timestamp};
