//! Congestion control: CUBIC (RFC 9438), with HyStart++ (RFC 9406) to leave slow start before it
//! overruns the path.
//!
//! - `cwnd` is in bytes. It grows by the bytes acknowledged in slow start, afterwards along a cubic
//!   function of the time since the last reduction, or as Reno's would, whichever is larger.
//! - A **round** is the time in which what was in flight at its start is acknowledged. When the RTT
//!   grows from round to round, a queue is building: slow start then continues conservatively
//!   (CSS), at a quarter of its rate, and ends if that lasts.
//! - It grows only while it limits the sender (see RFC 7661).

use super::seq::Seq;
use super::time::{MS, Micros};

/// Segments of the initial window, and the bytes that more than two of them may not exceed (RFC
/// 6928, section 2).
const INITIAL_WINDOW: (usize, usize) = (10, 14_600);
/// Multiplicative decrease factor and the constant of the cubic function (RFC 9438, sections 4.6
/// and 5.1).
const BETA: f64 = 0.7;
const C: f64 = 0.4;
/// MIN_RTT_THRESH and MAX_RTT_THRESH. RFC 9406 has 4 ms for the first; inside a site whole paths
/// have a shorter RTT than that.
const RTT_THRESH: (Micros, Micros) = (MS, 16 * MS);
/// RTT samples in a round before it is evaluated. RFC 9406 has 8; acknowledgements are shared by a
/// batch, so a round has fewer.
const N_RTT_SAMPLE: u32 = 4;
/// CSS_GROWTH_DIVISOR and CSS_ROUNDS.
const CSS: (usize, u32) = (4, 5);

/// What an acknowledgement says about the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct AckSample {
    pub(super) bytes: usize,
    pub(super) rtt: Option<Micros>,
    pub(super) srtt: Micros,
    /// SND.UNA and SND.NXT after it.
    pub(super) snd_una: Seq,
    pub(super) snd_nxt: Seq,
    /// The congestion window limited the sender.
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
    /// In conservative slow start: the RTT it began with, and the rounds spent.
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
    /// cwnd, ssthresh and w_max before the last reduction.
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

    /// Payload of a full segment, from now on.
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
        let round = &mut self.round;
        if let Some(rtt) = sample.rtt {
            round.current_min_rtt = round.current_min_rtt.min(rtt);
            round.sample_count += 1;
        }
        if round.sample_count >= N_RTT_SAMPLE
            && round.current_min_rtt != Micros::MAX
            && round.last_min_rtt != Micros::MAX
        {
            match round.css {
                None if round.current_min_rtt
                    >= round.last_min_rtt
                        + (round.last_min_rtt / 8).clamp(RTT_THRESH.0, RTT_THRESH.1) =>
                {
                    round.css = Some((round.current_min_rtt, 0))
                }
                Some((base, _)) if round.current_min_rtt < base => round.css = None,
                _ => {}
            }
        }
        if sample.snd_una.after(round.window_end) || sample.snd_una == round.window_end {
            round.window_end = sample.snd_nxt;
            (round.last_min_rtt, round.current_min_rtt, round.sample_count) =
                (round.current_min_rtt, Micros::MAX, 0);
            if let Some((_, css_rounds)) = &mut round.css {
                *css_rounds += 1;
                if *css_rounds >= CSS.1 {
                    round.css = None;
                    self.ssthresh = self.cwnd;
                }
            }
        }
    }

    /// A loss was detected: sets ssthresh; the recovery sets cwnd.
    pub(super) fn on_congestion_event(&mut self) {
        self.prior = Some((self.cwnd, self.ssthresh, self.w_max));
        let window = self.cwnd as f64;
        // Fast convergence (RFC 9438, section 4.7).
        self.w_max = if window < self.w_max { window * (1.0 + BETA) / 2.0 } else { window };
        self.ssthresh = ((window * BETA) as usize).max(2 * self.mss);
        self.epoch = None;
    }

    /// Retransmission timeout. `first`: none of the same data before.
    pub(super) fn on_rto(&mut self, first: bool) {
        if first {
            self.on_congestion_event();
        }
        self.cwnd = self.mss;
        self.epoch = None;
    }

    pub(super) fn set_cwnd(&mut self, window: usize) {
        self.cwnd = window.max(self.mss);
    }

    /// Restores the state before the last reduction, which was caused by a spurious retransmission.
    pub(super) fn undo(&mut self) {
        if let Some((window, ssthresh, w_max)) = self.prior.take() {
            self.cwnd = self.cwnd.max(window);
            self.ssthresh = ssthresh;
            self.w_max = w_max;
            self.epoch = None;
        }
    }

    /// Nothing was sent for longer than the RTO (RFC 5681, section 4.1).
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

/// Proportional rate reduction (RFC 9937): sends about as much as was delivered, neither in a burst
/// nor after a pause.
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

    /// The congestion window after `delivered` more bytes. `safe`: and no further loss was detected
    /// (safeACK).
    pub(super) fn cwnd(
        &mut self,
        delivered: usize,
        in_flight: usize,
        ssthresh: usize,
        mss: usize,
        safe: bool,
    ) -> usize {
        self.prr_delivered += delivered;
        let allowed = if in_flight > ssthresh {
            (self.prr_delivered * ssthresh).div_ceil(self.recover_fs).saturating_sub(self.prr_out)
        } else {
            let bound = self.prr_delivered.saturating_sub(self.prr_out).max(delivered)
                + if safe { mss } else { 0 };
            (ssthresh - in_flight).min(bound)
        };
        // The first retransmission is sent at once.
        let allowed = if self.prr_out == 0 { allowed.max(mss) } else { allowed };
        in_flight + allowed
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
    fn slow_start_doubles_and_a_loss_reduces_by_three_tenths() {
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
    fn the_window_recovers_along_the_cubic_curve() {
        let mut cubic = Cubic::new(MSS, Seq(0));
        cubic.set_cwnd(1000 * MSS);
        cubic.on_congestion_event();
        cubic.set_cwnd(cubic.ssthresh());
        // RFC 9438, 4.2: K = cbrt(300 / 0.4), 9.09 s.
        let (mut now, mut restored_at) = (0, None);
        while now < 20_000 * MS {
            now += 100 * MS;
            let window = cubic.cwnd();
            ack(&mut cubic, window, 100 * MS, now, 0);
            assert!(cubic.cwnd() <= window * 3 / 2 + 1);
            if restored_at.is_none() && cubic.cwnd() >= 1000 * MSS {
                restored_at = Some(now / MS);
            }
        }
        assert!(restored_at.is_some_and(|at| (8_000..10_000).contains(&at)), "{restored_at:?}");
        assert!(cubic.cwnd() > 1300 * MSS);
    }

    #[test]
    fn hystart_ends_slow_start_when_the_rtt_grows() {
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
    fn an_application_limited_sender_does_not_grow_its_window() {
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
