//! RACK-TLP loss detection (RFC 8985) and retransmission.

use super::{DUP_THRESH, Delivery, LOST, RETRANSMITTED, SACKED, Scoreboard, SentSegment};
use crate::tunnel::tcp::seq::Seq;
use crate::tunnel::tcp::time::{MS, Micros};

/// Recoveries for which a wider reordering window is kept (RFC 8985, section 6.2, step 4).
const REO_WND_PERSIST: u8 = 16;

impl Scoreboard {
    /// RACK_update (RFC 8985, section 6.2, steps 1 to 3).
    pub(in crate::tunnel::tcp) fn rack_update(
        &mut self,
        part: &SentSegment,
        now: Micros,
        echoed: &impl Fn(Micros) -> Option<bool>,
        delivery: &mut Delivery,
    ) {
        self.delivered_since_check = true;
        delivery.bytes += part.len as usize;
        let rtt = now.saturating_sub(part.sent_at);
        if part.has_flag(RETRANSMITTED) {
            let spurious = echoed(part.sent_at) == Some(true);
            delivery.spurious_retransmit |= spurious;
            if spurious || self.min_rtt.is_some_and(|least| rtt < least) {
                return;
            }
        } else {
            if self.fack.is_some_and(|highest| part.end().before(highest)) {
                self.reordering_seen = true;
            }
            delivery.rtt = Some(rtt);
            self.min_rtt = Some(self.min_rtt.map_or(rtt, |least| least.min(rtt)));
        }
        self.rack_rtt = rtt;
        if self
            .rack_xmit
            .is_none_or(|(at, end)| rack_sent_after((part.sent_at, part.end()), (at, end)))
        {
            self.rack_xmit = Some((part.sent_at, part.end()));
        }
    }

    /// A D-SACK (RFC 2883) was received: widens the reordering window.
    pub(in crate::tunnel::tcp) fn handle_dsack(&mut self) {
        self.reordering_seen = true;
        self.reo_wnd_mult = self.reo_wnd_mult.saturating_add(1).min(8);
        self.reo_wnd_persist = REO_WND_PERSIST;
    }

    pub(in crate::tunnel::tcp) fn recovery_completed(&mut self) {
        self.reo_wnd_persist = self.reo_wnd_persist.saturating_sub(1);
        if self.reo_wnd_persist == 0 {
            self.reo_wnd_mult = 0;
        }
    }

    /// RACK_detect_loss (RFC 8985, section 6.2, steps 4 and 5): bytes newly lost, and when to look
    /// again.
    pub(in crate::tunnel::tcp) fn rack_detect_loss(
        &mut self,
        now: Micros,
        recovering: bool,
        smoothed: Micros,
    ) -> (usize, Option<Micros>) {
        self.delivered_since_check = false;
        let Some(latest) = self.rack_xmit else { return (0, None) };
        let reo_deadline = self.rack_rtt + self.reordering_window(recovering, smoothed);
        let (mut newly_lost, mut next_check) = (0, None::<Micros>);
        for sent in &mut self.segments {
            if sent.flags & (SACKED | LOST) != 0 {
                continue;
            }
            if !rack_sent_after(latest, (sent.sent_at, sent.end())) {
                // Segments sent once were sent in sequence order; only retransmitted ones can still
                // be older.
                if self.high_rxt.is_none_or(|high_rxt| !sent.seq.before(high_rxt)) {
                    break;
                }
                continue;
            }
            let due = sent.sent_at + reo_deadline;
            if due <= now {
                sent.flags |= LOST;
                self.in_flight = self.in_flight.saturating_sub(sent.len as usize);
                self.lost_bytes += sent.len as usize;
                newly_lost += sent.len as usize;
            } else {
                next_check = Some(next_check.map_or(due, |at| at.max(due)));
            }
        }
        (newly_lost, next_check)
    }

    fn reordering_window(&self, recovering: bool, smoothed: Micros) -> Micros {
        if !self.reordering_seen && (recovering || self.sacked_segments >= DUP_THRESH) {
            return 0;
        }
        (self.min_rtt.unwrap_or(smoothed) / 4 * (1 + Micros::from(self.reo_wnd_mult)))
            .min(smoothed)
            .max(MS / 10)
    }

    /// On a retransmission timeout: the oldest segment is lost, and all that were sent long enough
    /// ago (RFC 8985, section 6.3).
    pub(in crate::tunnel::tcp) fn mark_lost_on_rto(&mut self, now: Micros, timeout: Micros) {
        if self.segments.front().is_some_and(|first| first.has_flag(SACKED)) {
            // The receiver has reneged (RFC 2018, section 8): SACKed segments are sent again.
            self.segments.iter_mut().filter(|sent| sent.has_flag(SACKED)).for_each(|sent| {
                sent.flags &= !SACKED;
                self.in_flight += sent.len as usize;
            });
            (self.sacked_segments, self.last_sack_blocks) = (0, [None; 3]);
        }
        for (n, sent) in self.segments.iter_mut().enumerate() {
            if sent.flags & (SACKED | LOST) == 0 && (n == 0 || sent.sent_at + timeout <= now) {
                sent.flags |= LOST;
                self.in_flight = self.in_flight.saturating_sub(sent.len as usize);
                self.lost_bytes += sent.len as usize;
            }
        }
    }

    /// No segment was lost after all.
    pub(in crate::tunnel::tcp) fn undo_losses(&mut self) {
        for sent in &mut self.segments {
            if sent.has_flag(LOST) {
                sent.flags &= !LOST;
                self.in_flight += sent.len as usize;
            }
        }
        self.lost_bytes = 0;
    }

    /// Marks the next lost segment from index `from` on as retransmitted; returns its index.
    pub(in crate::tunnel::tcp) fn retransmit_next_lost(
        &mut self,
        from: usize,
        now: Micros,
    ) -> Option<(usize, SentSegment)> {
        if self.lost_bytes == 0 {
            return None;
        }
        let index = (from..self.segments.len())
            .find(|&n| self.segments.get(n).is_some_and(|sent| sent.has_flag(LOST)))?;
        let sent = self.segments.get_mut(index)?;
        sent.flags = (sent.flags & !LOST) | RETRANSMITTED;
        sent.sent_at = now;
        self.lost_bytes = self.lost_bytes.saturating_sub(sent.len as usize);
        self.in_flight += sent.len as usize;
        let sent = *sent;
        self.high_rxt = Some(self.high_rxt.map_or(sent.end(), |end| end.max(sent.end())));
        Some((index, sent))
    }

    /// Marks the last segment as retransmitted, for a tail loss probe (RFC 8985, section 7.3).
    pub(in crate::tunnel::tcp) fn retransmit_last(&mut self, now: Micros) -> Option<SentSegment> {
        let sent = self.segments.back_mut().filter(|sent| sent.flags & (SACKED | LOST) == 0)?;
        sent.flags |= RETRANSMITTED;
        sent.sent_at = now;
        let sent = *sent;
        self.high_rxt = Some(self.high_rxt.map_or(sent.end(), |end| end.max(sent.end())));
        Some(sent)
    }
}

/// RACK_sent_after (RFC 8985).
fn rack_sent_after(a: (Micros, Seq), b: (Micros, Seq)) -> bool {
    a.0 > b.0 || (a.0 == b.0 && a.1.after(b.1))
}
