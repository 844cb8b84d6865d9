//! Tests of the scoreboard.

use super::*;
use crate::tunnel::tcp::time::MS;

const RTT: Micros = 20 * MS;

fn board(count: u32) -> Scoreboard {
    let mut board = Scoreboard::default();
    (0..count)
        .for_each(|n| board.push(Seq(u32::MAX - 1500).plus(n * 1000), 1000, 0, Micros::from(n)));
    board
}

fn at(n: u32) -> Seq {
    Seq(u32::MAX - 1500).plus(n * 1000)
}

fn sack(board: &mut Scoreboard, from: u32, to: u32, now: Micros) -> Delivery {
    let mut delivery = Delivery::default();
    board.handle_sack(&[Some((at(from), at(to))), None, None], now, |_| None, &mut delivery);
    delivery
}

#[test]
fn three_sacked_segments_above_a_gap_mean_loss() {
    let mut board = board(10);
    assert_eq!(sack(&mut board, 1, 3, RTT).bytes, 2000);
    assert_eq!(board.rack_detect_loss(RTT, false, RTT).0, 0);
    assert_eq!(sack(&mut board, 1, 4, RTT + 1).bytes, 1000);
    assert_eq!(board.rack_detect_loss(RTT + 10, false, RTT).0, 1000);
    assert_eq!(board.in_flight(), 6000);
    let (_, sent) = board.retransmit_next_lost(0, RTT + 10).unwrap();
    assert_eq!((sent.seq, board.in_flight(), board.has_lost()), (at(0), 7000, false));
    // A retransmission is detected as lost by a segment sent after it.
    board.push(at(10), 1000, 0, RTT + 11);
    sack(&mut board, 10, 11, 2 * RTT + 11);
    assert_eq!(board.rack_detect_loss(2 * RTT + 11, true, RTT).0, 1000 * 7);
}

#[test]
fn reordering_widens_the_reordering_window() {
    let mut board = board(10);
    sack(&mut board, 1, 3, RTT);
    let mut delivery = Delivery::default();
    board.handle_ack(at(1), RTT + 5, |_| None, &mut delivery);
    assert_eq!((delivery.bytes, delivery.rtt), (1000, Some(RTT + 5)));
    sack(&mut board, 4, 9, RTT + 10);
    let (lost, next_check) = board.rack_detect_loss(RTT + 10, false, RTT);
    assert_eq!(lost, 0);
    assert!(next_check.is_some_and(|at| at > RTT + 10 && at < 2 * RTT));
    assert_eq!(board.rack_detect_loss(2 * RTT, false, RTT).0, 1000);
}

#[test]
fn an_ack_inside_a_segment_leaves_its_remainder() {
    let mut board = board(2);
    let mut delivery = Delivery::default();
    board.handle_ack(at(0).plus(1300), RTT, |_| None, &mut delivery);
    assert_eq!((delivery.bytes, board.in_flight(), board.count()), (1300, 700, 1));
    board.handle_ack(at(2), RTT, |_| None, &mut delivery);
    assert_eq!((delivery.bytes, board.in_flight(), board.is_empty()), (2000, 0, true));
}

#[test]
fn resegmenting_keeps_bytes_and_state() {
    let mut board = board(4);
    board.push(at(4), 1, HAS_FIN, 9);
    sack(&mut board, 1, 2, RTT);
    board.mark_oldest_lost();
    board.resegment(300);
    let segments: Vec<_> = board.segments.iter().map(|sent| (sent.seq, sent.len)).collect();
    assert!(segments.windows(2).all(|two| two[0].0.plus(two[0].1) == two[1].0 && two[0].1 <= 300));
    assert_eq!(
        (board.count(), board.in_flight(), board.lost_bytes, board.sacked_segments),
        (17, 2001, 1000, 4)
    );
    assert!(
        board.segments.back().is_some_and(SentSegment::has_fin)
            && board.segments.iter().filter(|sent| sent.has_fin()).count() == 1
    );
    let (place, sent) = board.retransmit_next_lost(0, RTT).unwrap();
    assert_eq!((place, sent.seq, sent.len), (0, at(0), 300));
    let mut delivery = Delivery::default();
    board.handle_ack(at(4).plus(1), 2 * RTT, |_| None, &mut delivery);
    assert_eq!(
        (board.in_flight(), board.lost_bytes, board.sacked_segments, board.is_empty()),
        (0, 0, 0, true)
    );
}

#[test]
fn an_echo_of_the_original_marks_the_retransmission_as_spurious() {
    let mut board = board(2);
    board.mark_lost_on_rto(5 * RTT, RTT);
    board.retransmit_next_lost(0, 5 * RTT);
    let mut delivery = Delivery::default();
    board.handle_ack(at(1), 5 * RTT + 1, |sent| Some(sent > RTT), &mut delivery);
    assert!(delivery.spurious_retransmit && delivery.rtt.is_none());
}
