//! Filters that reply in the other side's place.

use super::*;
use crate::viewer::browser::Disconnected;
use crate::viewer::stream_filter::{Channel, PassThrough, RefusedTransfer, StreamFilterError};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Messages of two bytes. The reply to `?x` is `!x`, and it is not forwarded; `#` is refused;
/// everything else passes.
#[derive(Default)]
struct ReplyingFilter {
    first_byte: Option<u8>,
}

impl StreamFilter for ReplyingFilter {
    fn feed(&mut self, chunk: Bytes, output: &mut Filtered) -> Result<(), StreamFilterError> {
        for byte in chunk {
            match (self.first_byte.take(), byte) {
                (None, b'#') => return Err(StreamFilterError::Forbidden("#")),
                (None, b'?') => self.first_byte = Some(b'?'),
                (None, first) => {
                    self.first_byte = Some(first);
                    output.forward.push_back(Bytes::copy_from_slice(&[first]));
                }
                (Some(b'?'), what) => {
                    output.replies.push_back(Bytes::copy_from_slice(&[b'!', what]));
                    output.refused.push(RefusedTransfer {
                        channel: Channel::Other,
                        direction: Direction::Up,
                        bytes: 2,
                        count: 1,
                    });
                }
                (Some(_), second) => output.forward.push_back(Bytes::copy_from_slice(&[second])),
            }
        }
        Ok(())
    }

    fn at_message_boundary(&self) -> bool {
        self.first_byte.is_none_or(|first| first == b'?')
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

/// A relay under test: the browser's input and output, and the desktop's stream.
struct RelayHarness {
    input: mpsc::Sender<Bytes>,
    output: mpsc::Receiver<Bytes>,
    desktop: DuplexStream,
    end: tokio::task::JoinHandle<(StreamEnd, u64)>,
}

fn start_relay<U: StreamFilter + 'static, D: StreamFilter + 'static>(
    filters: StreamFilters<U, D>,
    capacity: usize,
) -> RelayHarness {
    let (near, desktop) = tokio::io::duplex(capacity);
    let (input, browser_input) = mpsc::channel(64);
    let (browser_output, output) = mpsc::channel(64);
    let end = tokio::spawn(async move {
        let (meters, refusals, timeouts) = (
            StreamMeters::default(),
            RefusalCounter::default(),
            Timeouts { pong: Duration::from_secs(600), ..Timeouts::default() },
        );
        let counters = StreamCounters { meters: &meters, refusals: &refusals };
        let end = relay(
            near,
            Sink(browser_output),
            &mut Source(browser_input),
            EarlyData::default(),
            filters,
            counters,
            &timeouts,
        )
        .await;
        (end, meters.up.load(Ordering::Relaxed))
    });
    RelayHarness { input, output, desktop, end }
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
async fn replies_are_inserted_between_two_messages() {
    let mut relay = start_relay(
        StreamFilters { up: ReplyingFilter::default(), down: ReplyingFilter::default() },
        1024,
    );
    relay.input.send(Bytes::from_static(b"?a")).await.expect("open");
    assert_eq!(relay.output.recv().await.expect("an answer"), "!a");
    // The browser is inside a message: the reply to the desktop waits for its end.
    relay.input.send(Bytes::from_static(b"x")).await.expect("open");
    assert_eq!(read(&mut relay.desktop, 1).await, b"x");
    relay.desktop.write_all(b"?byz").await.expect("open");
    assert_eq!(relay.output.recv().await.expect("what passes"), "y");
    assert_eq!(relay.output.recv().await.expect("what passes"), "z");
    relay.input.send(Bytes::from_static(b"1")).await.expect("open");
    assert_eq!(read(&mut relay.desktop, 3).await, b"1!b");
    drop(relay.input);
    assert!(matches!(relay.end.await.expect("no panic"), (StreamEnd::BrowserClosed, 4)));
}

#[tokio::test]
async fn output_before_an_error_is_sent_and_nothing_after() {
    let mut relay =
        start_relay(StreamFilters { up: ReplyingFilter::default(), down: PassThrough }, 1024);
    relay.input.send(Bytes::from_static(b"ab#cd")).await.expect("open");
    assert_eq!(read(&mut relay.desktop, 2).await, b"ab");
    assert!(matches!(
        relay.end.await.expect("no panic").0,
        StreamEnd::Filter(Direction::Up, StreamFilterError::Forbidden(_))
    ));
    let mut rest = Vec::new();
    relay.desktop.read_to_end(&mut rest).await.expect("closed");
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_side_that_does_not_read_its_replies_is_disconnected() {
    let mut relay = start_relay(
        StreamFilters { up: ReplyingFilter::default(), down: ReplyingFilter::default() },
        64,
    );
    // The desktop requests replies and does not read them.
    let writing = async { while relay.desktop.write_all(&b"?b".repeat(512)).await.is_ok() {} };
    timeout(Duration::from_secs(30), writing).await.expect("it is cut");
    assert!(matches!(relay.end.await.expect("no panic").0, StreamEnd::DesktopStalled));
}
