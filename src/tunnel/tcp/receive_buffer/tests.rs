//! Tests of the receive buffer.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn data_is_read_in_order_whatever_order_it_arrived_in(
        start: u32,
        order in prop::collection::vec((0usize..6000, 1usize..1500), 1..80),
    ) {
        let data: Vec<u8> = (0..8000usize).map(|n| (n * 7 / 3) as u8).collect();
        let first = Seq(start);
        let mut received = ReceiveBuffer::new(first, 1 << 20, 0);
        let (mut present, mut out) = (vec![false; data.len()], ByteQueue::default());
        for (at, len) in order {
            received.insert(first.plus(at as u32), &data[at..at + len], 0);
            present[at..at + len].fill(true);
            let contiguous = present.iter().take_while(|present| **present).count();
            prop_assert_eq!(received.rcv_nxt.since(first) as usize, contiguous);
            for (from, to) in received.sack_blocks().into_iter().flatten() {
                let (from, to) = (from.since(first) as usize, to.since(first) as usize);
                prop_assert!(from < to && present[from..to].iter().all(|present| *present), "{from} {to}");
            }
            // Ranges are disjoint and not adjacent.
            prop_assert!(received.out_of_order.windows(2).all(|pair| pair[0].end().before(pair[1].start)));
            let kept: usize = received.out_of_order.iter().map(|range| range.bytes.len()).sum();
            prop_assert_eq!(kept, present.iter().skip(contiguous).filter(|present| **present).count());
        }
        received.read(&mut out, usize::MAX, 0);
        let mut bytes = vec![0; out.len()];
        out.read(&mut bytes);
        prop_assert!(bytes == data[..bytes.len()]);
    }
}

#[test]
fn the_window_grows_with_a_fast_reader_and_is_reset_when_idle() {
    let mut received = ReceiveBuffer::new(Seq(0), 4 << 20, 0);
    let (mut out, mut now) = (ByteQueue::default(), 0);
    for _ in 0..12 {
        now += 20 * MS;
        let window = received.window() as usize;
        received.insert(received.rcv_nxt, &vec![1; window], now);
        received.read(&mut out, usize::MAX, now);
        out.clear();
        received.auto_tune(now, 20 * MS, usize::MAX);
        received.advertise_window(7, 1368);
    }
    assert_eq!((received.limit(), received.window()), (4 << 20, 4 << 20));
    received.shrink_if_idle(now + IDLE_AFTER + 1);
    assert_eq!(received.limit(), LIMIT_INITIAL);
    assert!(received.memory() < 1024, "{}", received.memory());
}

#[test]
fn the_window_is_limited_on_a_path_with_a_short_rtt() {
    let mut received = ReceiveBuffer::new(Seq(0), 4 << 20, 0);
    let (mut out, mut now) = (ByteQueue::default(), 0);
    for _ in 0..100 {
        now += MS;
        let window = received.window() as usize;
        received.insert(received.rcv_nxt, &vec![1; window], now);
        received.read(&mut out, usize::MAX, now);
        out.clear();
        received.auto_tune(now, MS / 2, usize::MAX);
        received.advertise_window(7, 1368);
    }
    assert_eq!(received.limit(), LIMIT_LOW_RTT);
}

#[test]
fn the_window_does_not_grow_without_a_reader() {
    let mut received = ReceiveBuffer::new(Seq(0), 4 << 20, 0);
    for n in 1..100 {
        let space = received.window() as usize;
        received.insert(received.rcv_nxt, &vec![1; space], n * 20 * MS);
        received.auto_tune(n * 20 * MS, 20 * MS, usize::MAX);
        received.advertise_window(7, 1368);
    }
    assert_eq!((received.unread(), received.window()), (LIMIT_INITIAL, 0));
    assert!(
        !received.acceptable(received.rcv_nxt.plus(1), 1)
            && received.acceptable(received.rcv_nxt, 0)
    );
}

#[test]
fn single_bytes_with_gaps_take_little_memory() {
    let mut received = ReceiveBuffer::new(Seq(0), 1 << 20, 0);
    for n in 0..60_000u32 {
        received.insert(Seq(1 + n * 2 % 65_000), &[1], 0);
    }
    assert!(received.memory() < 1 << 20, "{}", received.memory());
}
