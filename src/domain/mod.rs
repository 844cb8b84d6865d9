//! Nouns and rules without I/O.
//!
//! | file | content |
//! | --- | --- |
//! | [`id`] | identifiers |
//! | [`time`] | timestamps and the clock |
//! | [`network`] | address ranges |
//! | [`sync`] | locking without poisoning |
//! | [`rate_limit`] | token buckets |
//! | [`secret`] | values that are never printed |
//! | [`error`] | the kinds of failure |
//! | [`duration`] | durations as people write and read them |
//! | [`email`] | the key by which e-mail addresses are compared |
//! | [`user`] | users, roles, and the source of a request |
//! | [`principal`] | who asks: a user, an API key, the system |
//! | [`workspace`] | what can be launched |
//! | [`host`] | where workspaces run |
//! | [`upstream`] | the server behind a stream: credential, trust, stream policy |
//! | [`web_app`] | how a web application is proxied, and which requests may pass |
//! | [`route`] | the network route of a stream, and the latency of its hops |
//! | [`session`] | a live, audited connection to a workspace, and its state machine |
//! | [`session_times`] | how long a session lasts, how far it can be extended, how long it may be idle |
//! | [`policy`] | who may do what: the only place that makes a [`policy::Permit`] |
//! | [`lease`] | the proof that a stream may be opened, with its target |
//! | [`audit`] | the audit log and its hash chain |

pub mod audit;
pub mod destination;
pub mod duration;
pub mod email;
pub mod error;
pub mod host;
pub mod id;
pub mod lease;
pub mod network;
pub mod policy;
pub mod principal;
pub mod rate_limit;
pub mod route;
pub mod secret;
pub mod session;
pub mod session_times;
pub mod sync;
pub mod time;
pub mod upstream;
pub mod user;
pub mod web_app;
pub mod workspace;

pub use error::{Error, ErrorKind, Result};
pub use id::{
    ApiKeyId, HostId, LoginId, OrganizationId, SessionId, UserId, WorkspaceId, WorkspaceKey,
};
pub use network::Network;
pub use time::{Clock, Timestamp};
