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
const INITIAL_WINDOW: (usize, usize) = (10, 14_600);
/// Multiplicative decrease, and the curve's constant (RFC 9438, sections 4.6 and 5.1).
const BETA: f64 = 0.7;
const C: f64 = 0.4;
/// Bounds of the growth in round trip time that means a queue. RFC 9406 has 4 ms for the lower one;
/// inside a site whole paths are shorter than that.
const RTT_THRESH: (Micros, Micros) = (MS, 16 * MS);
/// Measurements in a round before it is judged. RFC 9406 has 8; we share acknowledgements among a
/// batch, so a round has fewer.
const N_RTT_SAMPLE: u32 = 4;
/// Conservative slow start grows at this fraction, for so many rounds.
const CSS: (usize, u32) = (4, 5);

/// What acknowledged data says about the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct AckSample {
    pub(super) bytes: usize,
    pub(super) rtt: Option<Micros>,
    pub(super) srtt: Micros,
    /// Oldest byte not acknowledged, end of what was sent.
    pub(super) snd_una: Seq,
    pub(super) snd_nxt: Seq,
    /// The window was in the way of sending more.
    pub(super) cwnd_limited: bool,
}

#[derive(Debug, Clone, Copy)]
struct Epoch {
    started: Micros,
    k: f64,
    w_est: f64,
}

#[derive(Debug, Clone, Copy)]
struct RttRound {
    window_end: Seq,
    last_min_rtt: Micros,
    current_min_rtt: Micros,
    sample_count: u32,
    /// In conservative slow start: the round trip time it began with, and rounds spent.
    css: Option<(Micros, u32)>,
}

#[derive(Debug, Clone)]
pub(super) struct Cubic {
    mss: usize,
    cwnd: usize,
    ssthresh: usize,
    w_max: f64,
    epoch: Option<Epoch>,
    round: RttRound,
    /// Window, threshold and maximum before the last reduction.
    prior: Option<(usize, usize, f64)>,
}

fn initial_window(mss: usize) -> usize {
    (INITIAL_WINDOW.0 * mss).min(INITIAL_WINDOW.1.max(2 * mss))
}

impl Cubic {
    pub(super) fn new(mss: usize, nxt: Seq) -> Self {
        let round = RttRound {
            window_end: nxt,
            last_min_rtt: Micros::MAX,
            current_min_rtt: Micros::MAX,
            sample_count: 0,
            css: None,
        };
        Self {
            mss,
            cwnd: initial_window(mss),
            ssthresh: usize::MAX,
            w_max: 0.0,
            epoch: None,
            round,
            prior: None,
        }
    }

    pub(super) fn cwnd(&self) -> usize {
        self.cwnd
    }

    /// Full segments are now so large.
    pub(super) fn set_mss(&mut self, mss: usize) {
        self.mss = mss;
        self.set_cwnd(self.cwnd);
    }

    pub(super) fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    pub(super) fn on_ack(&mut self, sample: AckSample, now: Micros) {
        if self.in_slow_start() {
            self.hystart(&sample);
        }
        if !sample.cwnd_limited {
            self.epoch = None;
            return;
        }
        if self.in_slow_start() {
            let growth = if self.round.css.is_some() { sample.bytes / CSS.0 } else { sample.bytes };
            self.cwnd = (self.cwnd + growth).min(self.ssthresh.max(self.cwnd));
            return;
        }
        let (mss, window) = (self.mss as f64, self.cwnd as f64);
        if self.epoch.is_none() {
            self.w_max = self.w_max.max(window);
            self.epoch = Some(Epoch {
                started: now,
                k: ((self.w_max - window) / mss / C).cbrt(),
                w_est: window,
            });
        }
        let Some(epoch) = &mut self.epoch else { return };
        let alpha = if epoch.w_est < self.w_max { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        epoch.w_est += alpha * mss * sample.bytes as f64 / window;
        let seconds = (now.saturating_sub(epoch.started) + sample.srtt) as f64 / 1e6;
        let curve = self.w_max + C * (seconds - epoch.k).powi(3) * mss;
        let target = curve.clamp(window, 1.5 * window);
        let grown = window + (target - window) * (sample.bytes as f64 / window).min(1.0);
        self.cwnd = grown.max(epoch.w_est) as usize;
    }

    /// HyStart++ (RFC 9406, section 4.2).
    fn hystart(&mut self, sample: &AckSample) {
        let rounds = &mut self.round;
        if let Some(rtt) = sample.rtt {
            rounds.current_min_rtt = rounds.current_min_rtt.min(rtt);
            rounds.sample_count += 1;
        }
        if rounds.sample_count >= N_RTT_SAMPLE
            && rounds.current_min_rtt != Micros::MAX
            && rounds.last_min_rtt != Micros::MAX
        {
            match rounds.css {
                None if rounds.current_min_rtt
                    >= rounds.last_min_rtt
                        + (rounds.last_min_rtt / 8).clamp(RTT_THRESH.0, RTT_THRESH.1) =>
                {
                    rounds.css = Some((rounds.current_min_rtt, 0))
                }
                Some((base, _)) if rounds.current_min_rtt < base => rounds.css = None,
                _ => {}
            }
        }
        if sample.snd_una.after(rounds.window_end) || sample.snd_una == rounds.window_end {
            rounds.window_end = sample.snd_nxt;
            (rounds.last_min_rtt, rounds.current_min_rtt, rounds.sample_count) =
                (rounds.current_min_rtt, Micros::MAX, 0);
            if let Some((_, spent)) = &mut rounds.css {
                *spent += 1;
                if *spent >= CSS.1 {
                    rounds.css = None;
                    self.ssthresh = self.cwnd;
                }
            }
        }
    }

    /// Something was lost: the threshold is set; how the window gets there is up to the recovery.
    pub(super) fn on_congestion_event(&mut self) {
        self.prior = Some((self.cwnd, self.ssthresh, self.w_max));
        let window = self.cwnd as f64;
        // Fast convergence (RFC 9438, section 4.7).
        self.w_max = if window < self.w_max { window * (1.0 + BETA) / 2.0 } else { window };
        self.ssthresh = ((window * BETA) as usize).max(2 * self.mss);
        self.epoch = None;
    }

    /// The retransmission timer fired: nothing is known of the path any more.
    pub(super) fn on_rto(&mut self, first: bool) {
        if first {
            self.on_congestion_event();
        }
        self.cwnd = self.mss;
        self.epoch = None;
    }

    /// The recovery says how much.
    pub(super) fn set_cwnd(&mut self, window: usize) {
        self.cwnd = window.max(self.mss);
    }

    /// Nothing had been lost after all.
    pub(super) fn undo(&mut self) {
        if let Some((window, threshold, max)) = self.prior.take() {
            self.cwnd = self.cwnd.max(window);
            self.ssthresh = threshold;
            self.w_max = max;
            self.epoch = None;
        }
    }

    /// Nothing was sent for longer than the retransmission timeout: what was learnt is old (RFC
    /// 5681, section 4.1).
    pub(super) fn restart_after_idle(&mut self, nxt: Seq) {
        self.ssthresh = self.ssthresh.max(self.cwnd / 4 * 3);
        self.cwnd = self.cwnd.min(initial_window(self.mss));
        self.epoch = None;
        self.round = RttRound {
            window_end: nxt,
            last_min_rtt: Micros::MAX,
            current_min_rtt: Micros::MAX,
            sample_count: 0,
            css: None,
        };
    }
}

/// A recovery's pace: proportional rate reduction (RFC 9937), which sends about as much as was
/// delivered, neither in a burst nor after a pause.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProportionalRateReduction {
    recover_fs: usize,
    prr_delivered: usize,
    prr_out: usize,
}

impl ProportionalRateReduction {
    pub(super) fn new(flight: usize) -> Self {
        Self { recover_fs: flight.max(1), prr_delivered: 0, prr_out: 0 }
    }

    pub(super) fn on_send(&mut self, bytes: usize) {
        self.prr_out += bytes;
    }

    /// The window, after `delivered` more bytes arrived at the other end. `safe`: and nothing more
    /// was found lost.
    pub(super) fn cwnd(
        &mut self,
        delivered: usize,
        in_flight: usize,
        threshold: usize,
        mss: usize,
        safe: bool,
    ) -> usize {
        self.prr_delivered += delivered;
        let may = if in_flight > threshold {
            (self.prr_delivered * threshold).div_ceil(self.recover_fs).saturating_sub(self.prr_out)
        } else {
            let bound = self.prr_delivered.saturating_sub(self.prr_out).max(delivered)
                + if safe { mss } else { 0 };
            (threshold - in_flight).min(bound)
        };
        // The first retransmission always goes out at once.
        let may = if self.prr_out == 0 { may.max(mss) } else { may };
        in_flight + may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;

    fn ack(cubic: &mut Cubic, bytes: usize, rtt: Micros, now: Micros, una: u32) {
        let sample = AckSample {
            bytes,
            rtt: Some(rtt),
            srtt: rtt,
            snd_una: Seq(una),
            snd_nxt: Seq(una + 100_000),
            cwnd_limited: true,
        };
        cubic.on_ack(sample, now);
    }

    #[test]
    fn slow_start_doubles_and_congestion_takes_three_tenths() {
        let mut cubic = Cubic::new(MSS, Seq(0));
        assert_eq!(cubic.cwnd(), 10 * MSS);
        ack(&mut cubic, 10 * MSS, 20 * MS, 0, 0);
        assert_eq!(cubic.cwnd(), 20 * MSS);
        cubic.on_congestion_event();
        assert_eq!(cubic.ssthresh(), 14 * MSS);
        cubic.undo();
        assert_eq!((cubic.cwnd(), cubic.in_slow_start()), (20 * MSS, true));
    }

    #[test]
    fn after_a_reduction_the_window_comes_back_to_where_it_was_and_then_beyond() {
        let mut cubic = Cubic::new(MSS, Seq(0));
        cubic.set_cwnd(1000 * MSS);
        cubic.on_congestion_event();
        cubic.set_cwnd(cubic.ssthresh());
        // RFC 9438, 4.2: K = cbrt(300 / 0.4), 9.09 s.
        let (mut now, mut back) = (0, None);
        while now < 20_000 * MS {
            now += 100 * MS;
            let window = cubic.cwnd();
            ack(&mut cubic, window, 100 * MS, now, 0);
            assert!(cubic.cwnd() <= window * 3 / 2 + 1);
            if back.is_none() && cubic.cwnd() >= 1000 * MSS {
                back = Some(now / MS);
            }
        }
        assert!(back.is_some_and(|at| (8_000..10_000).contains(&at)), "{back:?}");
        assert!(cubic.cwnd() > 1300 * MSS);
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
        let sample = AckSample {
            bytes: MSS,
            rtt: Some(MS),
            srtt: MS,
            snd_una: Seq(0),
            snd_nxt: Seq(0),
            cwnd_limited: false,
        };
        (0..1000).for_each(|_| cubic.on_ack(sample, 0));
        assert_eq!(cubic.cwnd(), 10 * MSS);
    }
}
