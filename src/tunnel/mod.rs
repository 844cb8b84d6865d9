//! WireGuard in user space: boringtun for the secrets, a TCP of our own inside, one UDP port, one
//! owner task per tunnel.
//!
//! - A [`Hub`] is one UDP port with any number of tunnels; the gateway and the agent use the same
//!   one.
//! - A [`Tunnel`] is a handle to one of them: keys on both sides, two addresses inside, TCP between
//!   these two and nobody else.
//! - A [`TunnelStream`] is a TCP connection inside a tunnel; [`Tunnel::connect`] opens one, a
//!   [`TunnelListener`] accepts them.
//! - [`HubStatus`] is what the WireGuard state machine says, never a default.
//!
//! ```text
//! peer (pure: Tunn + tcp)      <- driver (its owner task) <- hub (one socket, sorts what arrives)
//!                                   ^ pipes: bounded buffers
//!                                stream, listener, handle
//! ```
//!
//! Needs no root and no TUN device: packets exist only in memory.

mod cross_thread_waker;
mod driver;
mod handle;
mod hub;
pub mod keys;
pub mod peer;
mod session_path;
mod stream;
mod tcp;

pub use handle::{PeerConfig, TCP_TIMEOUT, Tunnel, TunnelError, TunnelId, TunnelStats};
pub use hub::{Hub, HubConfig, HubCounters, TUNNELS_MAX, worker_threads};
pub use keys::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use peer::{MTU, MTU_MAX, Profile, TunnelStatus};
pub use session_path::{MeteredStream, SessionPath, probe_rtt};
pub use stream::{TunnelListener, TunnelStream};
