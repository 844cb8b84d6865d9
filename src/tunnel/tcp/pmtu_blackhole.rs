//! State of a detected path MTU black hole (see `path_mtu`).

use super::seq::Seq;
use super::time::Micros;

#[derive(Debug, Clone, Copy)]
pub(super) struct BlackHole {
    /// Payload of a full segment before the black hole was detected.
    pub(super) max_payload: usize,
    /// End of the probe in flight.
    pub(super) probe: Option<Seq>,
    /// When the next probe may be sent.
    pub(super) next_probe_at: Micros,
    pub(super) raise_interval: Micros,
}
