//! WireGuard in user space: boringtun for the Noise protocol, a TCP implementation of our own
//! inside, one UDP port, one owner task per tunnel.
//!
//! - A [`Hub`] is one UDP port with any number of tunnels. The gateway and the agent both use it.
//! - A [`Tunnel`] is a handle to one tunnel: keys on both sides, two inner addresses, TCP between
//!   these two addresses only.
//! - A [`TunnelStream`] is a TCP connection inside a tunnel. [`Tunnel::connect`] opens one, a
//!   [`TunnelListener`] accepts them.
//! - [`TunnelStatus`] is derived from the WireGuard state machine, never assumed.
//!
//! ```text
//! peer (pure: Tunn + tcp)      <- driver (its owner task) <- hub (one socket, demultiplexes)
//!                                   ^ pipes: bounded buffers
//!                                stream, listener, handle
//! ```
//!
//! Needs neither root nor a TUN device: packets exist only in memory.

mod cross_thread_waker;
mod driver;
mod handle;
mod hub;
pub mod keys;
mod mtu;
pub mod peer;
mod session_path;
mod stream;
mod tcp;

pub use handle::{PeerConfig, TCP_TIMEOUT, Tunnel, TunnelError, TunnelId, TunnelStats};
pub use hub::{Hub, HubConfig, HubCounters, TUNNELS_MAX, worker_threads};
pub use keys::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use mtu::{MTU, MTU_MAX};
pub use peer::{Profile, TunnelStatus};
pub use session_path::{MeteredStream, SessionPath, probe_rtt};
pub use stream::{TunnelListener, TunnelStream};
