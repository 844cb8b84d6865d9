//! How much may be under way: CUBIC (RFC 9438), with HyStart++ (RFC 9406) to end slow start before
//! it overruns the path.
//!
//! - The **window** is in bytes. In **slow start** it grows by what is acknowledged, afterwards
//!   along a cubic curve of the time since the last reduction, or as Reno's would, whichever is
//!   more.
//! - A **round** is the time in which what was under way at its beginning is acknowledged. When
//!   round trips get longer from round to round, a queue is building: slow start then goes on
//!   **conservatively**, at a quarter of its pace, and ends if that lasts.
//! - It grows only while it is what limits the sender (RFC 7661 says why).

use super::seq::Seq;
use super::{MS, Micros};

/// Segments at the start, and bytes that more than two of them may not exceed (RFC 6928, section
/// 2).
const INITIAL: (usize, usize) = (10, 14_600);
/// Multiplicative decrease, and the curve's constant (RFC 9438, sections 4.6 and 5.1).
const BETA: f64 = 0.7;
const C: f64 = 0.4;
/// Bounds of the growth in round trip time that means a queue. RFC 9406 has 4 ms for the lower one;
/// inside a site whole paths are shorter than that.
const QUEUE: (Micros, Micros) = (MS, 16 * MS);
/// Measurements in a round before it is judged. RFC 9406 has 8; we share acknowledgements among a
/// batch, so a round has fewer.
const SAMPLES: u32 = 4;
/// Conservative slow start grows at this fraction, for so many rounds.
const CONSERVATIVE: (usize, u32) = (4, 5);

/// What acknowledged data says about the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) bytes: usize,
    pub(super) rtt: Option<Micros>,
    pub(super) smoothed: Micros,
    /// Oldest byte not acknowledged, end of what was sent.
    pub(super) una: Seq,
    pub(super) nxt: Seq,
    /// The window was in the way of sending more.
    pub(super) limited: bool,
}

#[derive(Debug, Clone, Copy)]
struct Epoch {
    since: Micros,
    k: f64,
    reno: f64,
}

#[derive(Debug, Clone, Copy)]
struct Rounds {
    end: Seq,
    last: Micros,
    current: Micros,
    samples: u32,
    /// In conservative slow start: the round trip time it began with, and rounds spent.
    conservative: Option<(Micros, u32)>,
}

#[derive(Debug, Clone)]
pub(super) struct Cubic {
    mss: usize,
    window: usize,
    threshold: usize,
    max: f64,
    epoch: Option<Epoch>,
    rounds: Rounds,
    /// Window, threshold and maximum before the last reduction.
    before: Option<(usize, usize, f64)>,
}

fn initial(mss: usize) -> usize {
    (INITIAL.0 * mss).min(INITIAL.1.max(2 * mss))
}

impl Cubic {
    pub(super) fn new(mss: usize, nxt: Seq) -> Self {
        let rounds = Rounds {
            end: nxt,
            last: Micros::MAX,
            current: Micros::MAX,
            samples: 0,
            conservative: None,
        };
        Self {
            mss,
            window: initial(mss),
            threshold: usize::MAX,
            max: 0.0,
            epoch: None,
            rounds,
            before: None,
        }
    }

    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Full segments are now so large.
    pub(super) fn resize(&mut self, mss: usize) {
        self.mss = mss;
        self.set(self.window);
    }

    pub(super) fn threshold(&self) -> usize {
        self.threshold
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    pub(super) fn acknowledged(&mut self, sample: Sample, now: Micros) {
        if self.in_slow_start() {
            self.round(&sample);
        }
        if !sample.limited {
            self.epoch = None;
            return;
        }
        if self.in_slow_start() {
            let growth = if self.rounds.conservative.is_some() {
                sample.bytes / CONSERVATIVE.0
            } else {
                sample.bytes
            };
            self.window = (self.window + growth).min(self.threshold.max(self.window));
            return;
        }
        let (mss, window) = (self.mss as f64, self.window as f64);
        if self.epoch.is_none() {
            self.max = self.max.max(window);
            self.epoch =
                Some(Epoch { since: now, k: ((self.max - window) / mss / C).cbrt(), reno: window });
        }
        let Some(epoch) = &mut self.epoch else { return };
        let alpha = if epoch.reno < self.max { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        epoch.reno += alpha * mss * sample.bytes as f64 / window;
        let seconds = (now.saturating_sub(epoch.since) + sample.smoothed) as f64 / 1e6;
        let curve = self.max + C * (seconds - epoch.k).powi(3) * mss;
        let target = curve.clamp(window, 1.5 * window);
        let grown = window + (target - window) * (sample.bytes as f64 / window).min(1.0);
        self.window = grown.max(epoch.reno) as usize;
    }

    /// HyStart++ (RFC 9406, section 4.2).
    fn round(&mut self, sample: &Sample) {
        let rounds = &mut self.rounds;
        if let Some(rtt) = sample.rtt {
            rounds.current = rounds.current.min(rtt);
            rounds.samples += 1;
        }
        if rounds.samples >= SAMPLES && rounds.current != Micros::MAX && rounds.last != Micros::MAX
        {
            match rounds.conservative {
                None if rounds.current
                    >= rounds.last + (rounds.last / 8).clamp(QUEUE.0, QUEUE.1) =>
                {
                    rounds.conservative = Some((rounds.current, 0))
                }
                Some((base, _)) if rounds.current < base => rounds.conservative = None,
                _ => {}
            }
        }
        if sample.una.after(rounds.end) || sample.una == rounds.end {
            rounds.end = sample.nxt;
            (rounds.last, rounds.current, rounds.samples) = (rounds.current, Micros::MAX, 0);
            if let Some((_, spent)) = &mut rounds.conservative {
                *spent += 1;
                if *spent >= CONSERVATIVE.1 {
                    rounds.conservative = None;
                    self.threshold = self.window;
                }
            }
        }
    }

    /// Something was lost: the threshold is set; how the window gets there is up to the recovery.
    pub(super) fn congestion(&mut self) {
        self.before = Some((self.window, self.threshold, self.max));
        let window = self.window as f64;
        // Fast convergence (RFC 9438, section 4.7).
        self.max = if window < self.max { window * (1.0 + BETA) / 2.0 } else { window };
        self.threshold = ((window * BETA) as usize).max(2 * self.mss);
        self.epoch = None;
    }

    /// The retransmission timer fired: nothing is known of the path any more.
    pub(super) fn timeout(&mut self, first: bool) {
        if first {
            self.congestion();
        }
        self.window = self.mss;
        self.epoch = None;
    }

    /// The recovery says how much.
    pub(super) fn set(&mut self, window: usize) {
        self.window = window.max(self.mss);
    }

    /// Nothing had been lost after all.
    pub(super) fn undo(&mut self) {
        if let Some((window, threshold, max)) = self.before.take() {
            self.window = self.window.max(window);
            self.threshold = threshold;
            self.max = max;
            self.epoch = None;
        }
    }

    /// Nothing was sent for longer than the retransmission timeout: what was learnt is old (RFC
    /// 5681, section 4.1).
    pub(super) fn rested(&mut self, nxt: Seq) {
        self.threshold = self.threshold.max(self.window / 4 * 3);
        self.window = self.window.min(initial(self.mss));
        self.epoch = None;
        self.rounds = Rounds {
            end: nxt,
            last: Micros::MAX,
            current: Micros::MAX,
            samples: 0,
            conservative: None,
        };
    }
}

/// A recovery's pace: proportional rate reduction (RFC 9937), which sends about as much as was
/// delivered, neither in a burst nor after a pause.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reduction {
    flight: usize,
    delivered: usize,
    sent: usize,
}

impl Reduction {
    pub(super) fn new(flight: usize) -> Self {
        Self { flight: flight.max(1), delivered: 0, sent: 0 }
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// The window, after `delivered` more bytes arrived at the other end. `safe`: and nothing more
    /// was found lost.
    pub(super) fn window(
        &mut self,
        delivered: usize,
        in_flight: usize,
        threshold: usize,
        mss: usize,
        safe: bool,
    ) -> usize {
        self.delivered += delivered;
        let may = if in_flight > threshold {
            (self.delivered * threshold).div_ceil(self.flight).saturating_sub(self.sent)
        } else {
            let bound = self.delivered.saturating_sub(self.sent).max(delivered)
                + if safe { mss } else { 0 };
            (threshold - in_flight).min(bound)
        };
        // The first retransmission always goes out at once.
        let may = if self.sent == 0 { may.max(mss) } else { may };
        in_flight + may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;

    fn ack(cubic: &mut Cubic, bytes: usize, rtt: Micros, now: Micros, una: u32) {
        let sample = Sample {
            bytes,
            rtt: Some(rtt),
            smoothed: rtt,
            una: Seq(una),
            nxt: Seq(una + 100_000),
            limited: true,
        };
        cubic.acknowledged(sample, now);
    }

    #[test]
    fn slow_start_doubles_and_congestion_takes_three_tenths() {
        let mut cubic = Cubic::new(MSS, Seq(0));
        assert_eq!(cubic.window(), 10 * MSS);
        ack(&mut cubic, 10 * MSS, 20 * MS, 0, 0);
        assert_eq!(cubic.window(), 20 * MSS);
        cubic.congestion();
        assert_eq!(cubic.threshold(), 14 * MSS);
        cubic.undo();
        assert_eq!((cubic.window(), cubic.in_slow_start()), (20 * MSS, true));
    }

    #[test]
    fn after_a_reduction_the_window_comes_back_to_where_it_was_and_then_beyond() {
        let mut cubic = Cubic::new(MSS, Seq(0));
        cubic.set(1000 * MSS);
        cubic.congestion();
        cubic.set(cubic.threshold());
        // RFC 9438, 4.2: K = cbrt(300 / 0.4), 9.09 s.
        let (mut now, mut back) = (0, None);
        while now < 20_000 * MS {
            now += 100 * MS;
            let window = cubic.window();
            ack(&mut cubic, window, 100 * MS, now, 0);
            assert!(cubic.window() <= window * 3 / 2 + 1);
            if back.is_none() && cubic.window() >= 1000 * MSS {
                back = Some(now / MS);
            }
        }
        assert!(back.is_some_and(|at| (8_000..10_000).contains(&at)), "{back:?}");
        assert!(cubic.window() > 1300 * MSS);
    }

    #[test]
    fn slow_start_ends_when_round_trips_grow() {
        let mut cubic = Cubic::new(MSS, Seq(0));
        let mut una = 0;
        for round in 0..12 {
            for _ in 0..8 {
                una += 20_000;
                ack(&mut cubic, MSS, 20 * MS + round * 3 * MS, 0, una);
            }
        }
        assert!(!cubic.in_slow_start());
    }

    #[test]
    fn a_sender_with_little_to_say_earns_no_window() {
        let mut cubic = Cubic::new(MSS, Seq(0));
        let sample = Sample {
            bytes: MSS,
            rtt: Some(MS),
            smoothed: MS,
            una: Seq(0),
            nxt: Seq(0),
            limited: false,
        };
        (0..1000).for_each(|_| cubic.acknowledged(sample, 0));
        assert_eq!(cubic.window(), 10 * MSS);
    }
}
