//! How long a round trip takes, and how long to wait before sending again (RFC 6298).

use super::{MS, Micros};

/// The least wait. RFC 6298 (2.4) asks for a second, from the days of coarse clocks and 500 ms
/// delayed acknowledgements; Linux has used 200 ms for two decades, which still covers a peer's
/// delayed acknowledgement, and over a tunnel every second of silence is seen on a screen.
const RTO_MIN: Micros = 200 * MS;
/// The most, however often it was doubled. A tunnel silent for 20 s is given up anyway; waiting
/// longer than this would notice late that it is mended.
const RTO_MAX: Micros = 5_000 * MS;
/// Before anything was measured.
const RTO_INITIAL: Micros = 1_000 * MS;
/// Our clock's grain, as seen through the timers of the shell.
const CLOCK_GRANULARITY: Micros = MS;

/// The estimate.
#[derive(Debug, Clone, Default)]
pub(super) struct RttEstimator {
    srtt: Option<Micros>,
    rttvar: Micros,
    backoff: u32,
}

impl RttEstimator {
    /// Takes in a measurement.
    pub(super) fn add_sample(&mut self, rtt: Micros) {
        match self.srtt {
            None => {
                self.srtt = Some(rtt);
                self.rttvar = rtt / 2;
            }
            Some(smoothed) => {
                self.rttvar = (3 * self.rttvar + smoothed.abs_diff(rtt)) / 4;
                self.srtt = Some((7 * smoothed + rtt) / 8);
            }
        }
    }

    /// The smoothed round trip time, once something was measured.
    pub(super) fn srtt(&self) -> Option<Micros> {
        self.srtt
    }

    /// The retransmission timeout.
    pub(super) fn rto(&self) -> Micros {
        let base = self
            .srtt
            .map_or(RTO_INITIAL, |smoothed| smoothed + (4 * self.rttvar).max(CLOCK_GRANULARITY))
            .max(RTO_MIN);
        (base << self.backoff.min(8)).min(RTO_MAX)
    }

    /// It passed without an answer.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }

    /// Timeouts since something new was acknowledged.
    pub(super) fn backoff_count(&self) -> u32 {
        self.backoff
    }

    /// Something new was acknowledged.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_measurements_and_doubles_in_silence() {
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
        let waits: Vec<_> = (0..7)
            .map(|_| {
                rtt.back_off();
                rtt.rto() / MS
            })
            .collect();
        assert_eq!(waits, [400, 800, 1600, 3200, 5000, 5000, 5000]);
        rtt.reset_backoff();
        assert_eq!(rtt.rto(), RTO_MIN);
    }
}
