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
const RTO_FIRST: Micros = 1_000 * MS;
/// Our clock's grain, as seen through the timers of the shell.
const GRAIN: Micros = MS;

/// The estimate.
#[derive(Debug, Clone, Default)]
pub(super) struct Rtt {
    smoothed: Option<Micros>,
    variation: Micros,
    backoff: u32,
}

impl Rtt {
    /// Takes in a measurement.
    pub(super) fn measured(&mut self, rtt: Micros) {
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (3 * self.variation + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((7 * smoothed + rtt) / 8);
            }
        }
    }

    /// The smoothed round trip time, once something was measured.
    pub(super) fn smoothed(&self) -> Option<Micros> {
        self.smoothed
    }

    /// The retransmission timeout.
    pub(super) fn timeout(&self) -> Micros {
        let base = self
            .smoothed
            .map_or(RTO_FIRST, |smoothed| smoothed + (4 * self.variation).max(GRAIN))
            .max(RTO_MIN);
        (base << self.backoff.min(8)).min(RTO_MAX)
    }

    /// It passed without an answer.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }

    /// Timeouts since something new was acknowledged.
    pub(super) fn timeouts(&self) -> u32 {
        self.backoff
    }

    /// Something new was acknowledged.
    pub(super) fn answered(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_measurements_and_doubles_in_silence() {
        let mut rtt = Rtt::default();
        assert_eq!((rtt.smoothed(), rtt.timeout()), (None, RTO_FIRST));
        rtt.measured(20 * MS);
        assert_eq!((rtt.smoothed(), rtt.timeout()), (Some(20 * MS), RTO_MIN));
        rtt.measured(500 * MS);
        assert_eq!(rtt.smoothed(), Some(80 * MS));
        assert_eq!(rtt.timeout(), 80 * MS + 4 * (3 * 10 * MS + 480 * MS) / 4);
        for _ in 0..100 {
            rtt.measured(20 * MS);
        }
        let waits: Vec<_> = (0..7)
            .map(|_| {
                rtt.back_off();
                rtt.timeout() / MS
            })
            .collect();
        assert_eq!(waits, [400, 800, 1600, 3200, 5000, 5000, 5000]);
        rtt.answered();
        assert_eq!(rtt.timeout(), RTO_MIN);
    }
}
