//! Gates that answer in the other side's place.

use super::*;
use crate::viewer::browser::Disconnected;
use crate::viewer::stream_filter::{Channel, PassThrough, RefusedTransfer, StreamFilterError};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Messages of two bytes. `?x` is answered with `!x` and not passed on, `#` is refused, everything
/// else passes.
#[derive(Default)]
struct ReplyingFilter {
    half: Option<u8>,
}

impl StreamFilter for ReplyingFilter {
    fn feed(&mut self, chunk: Bytes, passed: &mut Filtered) -> Result<(), StreamFilterError> {
        for byte in chunk {
            match (self.half.take(), byte) {
                (None, b'#') => return Err(StreamFilterError::Forbidden("#")),
                (None, b'?') => self.half = Some(b'?'),
                (None, first) => {
                    self.half = Some(first);
                    passed.forward.push_back(Bytes::copy_from_slice(&[first]));
                }
                (Some(b'?'), what) => {
                    passed.replies.push_back(Bytes::copy_from_slice(&[b'!', what]));
                    passed.refused.push(RefusedTransfer {
                        channel: Channel::Other,
                        direction: Direction::Up,
                        bytes: 2,
                        count: 1,
                    });
                }
                (Some(_), second) => passed.forward.push_back(Bytes::copy_from_slice(&[second])),
            }
        }
        Ok(())
    }

    fn at_message_boundary(&self) -> bool {
        self.half.is_none_or(|first| first == b'?')
    }
}

#[derive(Clone)]
struct Sink(mpsc::Sender<Bytes>);

impl BrowserSink for Sink {
    async fn send(&mut self, chunk: Bytes) -> Result<(), Disconnected> {
        self.0.send(chunk).await.map_err(|_| Disconnected)
    }
    async fn ping(&mut self, _: &[u8]) -> Result<(), Disconnected> {
        Ok(())
    }
    async fn pong(&mut self, _: &[u8]) -> Result<(), Disconnected> {
        Ok(())
    }
}

struct Source(mpsc::Receiver<Bytes>);

impl BrowserSource for Source {
    async fn next(&mut self) -> Result<BrowserEvent, StreamEnd> {
        self.0.recv().await.map(BrowserEvent::Bytes).ok_or(StreamEnd::BrowserClosed)
    }
}

/// A relay between two hands: what the browser says and is told, what the desktop says and is told.
struct RelayHarness {
    input: mpsc::Sender<Bytes>,
    output: mpsc::Receiver<Bytes>,
    desktop: DuplexStream,
    end: tokio::task::JoinHandle<(StreamEnd, u64)>,
}

fn start_relay<U: StreamFilter + 'static, D: StreamFilter + 'static>(
    gates: StreamFilters<U, D>,
    room: usize,
) -> RelayHarness {
    let (near, desktop) = tokio::io::duplex(room);
    let (say, heard) = mpsc::channel(64);
    let (tell, told) = mpsc::channel(64);
    let end = tokio::spawn(async move {
        let (meters, tally, limits) = (
            StreamMeters::default(),
            RefusalCounter::default(),
            Timeouts { pong: Duration::from_secs(600), ..Timeouts::default() },
        );
        let observers = StreamCounters { meters: &meters, refusals: &tally };
        let end = relay(
            near,
            Sink(tell),
            &mut Source(heard),
            EarlyData::default(),
            gates,
            observers,
            &limits,
        )
        .await;
        (end, meters.up.load(Ordering::Relaxed))
    });
    RelayHarness { input: say, output: told, desktop, end }
}

async fn read(desktop: &mut DuplexStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    timeout(Duration::from_secs(30), desktop.read_exact(&mut bytes))
        .await
        .expect("in time")
        .expect("it is there");
    bytes
}

#[tokio::test]
async fn answers_go_back_between_two_messages() {
    let mut bench = start_relay(
        StreamFilters { up: ReplyingFilter::default(), down: ReplyingFilter::default() },
        1024,
    );
    bench.input.send(Bytes::from_static(b"?a")).await.expect("open");
    assert_eq!(bench.output.recv().await.expect("an answer"), "!a");
    // The browser is in the middle of a message: the desktop's answer waits for its end.
    bench.input.send(Bytes::from_static(b"x")).await.expect("open");
    assert_eq!(read(&mut bench.desktop, 1).await, b"x");
    bench.desktop.write_all(b"?byz").await.expect("open");
    assert_eq!(bench.output.recv().await.expect("what passes"), "y");
    assert_eq!(bench.output.recv().await.expect("what passes"), "z");
    bench.input.send(Bytes::from_static(b"1")).await.expect("open");
    assert_eq!(read(&mut bench.desktop, 3).await, b"1!b");
    drop(bench.input);
    assert!(matches!(bench.end.await.expect("no panic"), (StreamEnd::BrowserClosed, 4)));
}

#[tokio::test]
async fn what_passed_before_an_error_is_sent_and_nothing_after() {
    let mut bench =
        start_relay(StreamFilters { up: ReplyingFilter::default(), down: PassThrough }, 1024);
    bench.input.send(Bytes::from_static(b"ab#cd")).await.expect("open");
    assert_eq!(read(&mut bench.desktop, 2).await, b"ab");
    assert!(matches!(
        bench.end.await.expect("no panic").0,
        StreamEnd::Filter(Direction::Up, StreamFilterError::Forbidden(_))
    ));
    let mut rest = Vec::new();
    bench.desktop.read_to_end(&mut rest).await.expect("closed");
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn who_asks_and_never_reads_is_cut() {
    let mut bench = start_relay(
        StreamFilters { up: ReplyingFilter::default(), down: ReplyingFilter::default() },
        64,
    );
    // The desktop asks for answers and takes none.
    let asking = async { while bench.desktop.write_all(&b"?b".repeat(512)).await.is_ok() {} };
    timeout(Duration::from_secs(30), asking).await.expect("it is cut");
    assert!(matches!(bench.end.await.expect("no panic").0, StreamEnd::DesktopStalled));
}
