//! RTT estimation and the retransmission timeout (RFC 6298).

use super::time::{MS, Micros};

/// RFC 6298 (2.4) has one second, for coarse clocks and delayed ACKs of 500 ms. Linux has used 200
/// ms for two decades, which still covers a peer's delayed ACK; in a remote desktop a second of
/// silence is visible.
const RTO_MIN: Micros = 200 * MS;
/// Upper bound of the backoff. A tunnel silent for 20 s is given up anyway; a longer timeout would
/// only detect late that the path works again.
const RTO_MAX: Micros = 5_000 * MS;
/// Before the first measurement.
const RTO_INITIAL: Micros = 1_000 * MS;
/// Granularity of the driver's timers.
const CLOCK_GRANULARITY: Micros = MS;

#[derive(Debug, Clone, Default)]
pub(super) struct RttEstimator {
    srtt: Option<Micros>,
    rttvar: Micros,
    backoff: u32,
}

impl RttEstimator {
    pub(super) fn add_sample(&mut self, rtt: Micros) {
        match self.srtt {
            None => {
                self.srtt = Some(rtt);
                self.rttvar = rtt / 2;
            }
            Some(srtt) => {
                self.rttvar = (3 * self.rttvar + srtt.abs_diff(rtt)) / 4;
                self.srtt = Some((7 * srtt + rtt) / 8);
            }
        }
    }

    pub(super) fn srtt(&self) -> Option<Micros> {
        self.srtt
    }

    pub(super) fn rto(&self) -> Micros {
        let base = self
            .srtt
            .map_or(RTO_INITIAL, |srtt| srtt + (4 * self.rttvar).max(CLOCK_GRANULARITY))
            .max(RTO_MIN);
        (base << self.backoff.min(8)).min(RTO_MAX)
    }

    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }

    /// Timeouts since the last new acknowledgement.
    pub(super) fn backoff_count(&self) -> u32 {
        self.backoff
    }

    /// New data was acknowledged.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rto_follows_the_samples_and_backs_off() {
        let mut rtt = RttEstimator::default();
        assert_eq!((rtt.srtt(), rtt.rto()), (None, RTO_INITIAL));
        rtt.add_sample(20 * MS);
        assert_eq!((rtt.srtt(), rtt.rto()), (Some(20 * MS), RTO_MIN));
        rtt.add_sample(500 * MS);
        assert_eq!(rtt.srtt(), Some(80 * MS));
        assert_eq!(rtt.rto(), 80 * MS + 4 * (3 * 10 * MS + 480 * MS) / 4);
        for _ in 0..100 {
            rtt.add_sample(20 * MS);
        }
        let timeouts: Vec<_> = (0..7)
            .map(|_| {
                rtt.back_off();
                rtt.rto() / MS
            })
            .collect();
        assert_eq!(timeouts, [400, 800, 1600, 3200, 5000, 5000, 5000]);
        rtt.reset_backoff();
        assert_eq!(rtt.rto(), RTO_MIN);
    }
}
