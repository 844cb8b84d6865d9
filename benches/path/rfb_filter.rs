//! (v) RFB with and without policy filters: the gateway's CPU for a stream of updates,
//! that of the filter alone, and the round trip of a key. The stream goes directly to the desktop's
//! port, without a tunnel, so that the filters' share is as large as possible.

use std::time::{Duration, Instant};

use bytes::Bytes;
use portcullis::protocol::rfb::filter::down::DownFilter;
use portcullis::protocol::rfb::filter::{
    FilterSink, Permissions, RefusedContent, SharedPixelFormat,
};
use portcullis::protocol::rfb::init::ServerInit;

use crate::baselines::measure_download;
use crate::browser::Browser;
use crate::desktop::{SERVER_INIT, updates};
use crate::machine::{median, quantile};
use crate::rdp::thread_cpu;
use crate::table::{Row, Threshold};
use crate::testbed::Testbed;
use crate::tunnel::Speed;
use crate::{Outcome, Settings, fail};

/// Largest accepted ratio of the relay's cost with filters to that without.
const MAX_RATIO: f64 = 1.05;
/// A KeyEvent, down (RFC 6143 section 7.5.4); the desktop sends a Bell for each.
const KEY_EVENT: [u8; 8] = [4, 1, 0, 0, 0, 0, 0, 0x61];

/// Measures both, alternating.
pub async fn measure(
    settings: &Settings,
    testbed: &mut Testbed,
    rows: &mut Vec<Row>,
) -> Outcome<()> {
    // Many short rounds: the machine's other load changes from second to second.
    let time = Duration::from_secs(2);
    let (mut open, mut filtered) = (Vec::new(), Vec::new());
    for _ in 0..settings.scaled(11, 5) {
        for (kind, speeds) in [('d', &mut open), ('f', &mut filtered)] {
            let browser = open_stream(testbed, kind, 3).await?;
            speeds.push(measure_download(browser, testbed.gateway.pid, time).await?);
        }
        eprintln!("  open {:?}, filtered {:?}", open.last(), filtered.last());
    }
    let ratio = median(
        open.iter().zip(&filtered).map(|(open, filtered)| filtered.cpu / open.cpu).collect(),
    );
    let (open, filtered) = (Speed::median(&open), Speed::median(&filtered));
    let describe =
        |speed: Speed| format!("{:.2} CPU-s/GiB at {:.1} Gbit/s", speed.cpu, speed.gbits);
    rows.push(Row::relative(
        "v",
        "RFB updates in bulk, clipboard forbidden: CPU of the gateway, median of alternating rounds",
        describe(filtered),
        format!("nothing forbidden: {}", describe(open)),
        ratio,
        Threshold::AtMost(MAX_RATIO),
    ));
    let amount = settings.scaled(8 << 30, 2 << 30);
    let alone = tokio::task::spawn_blocking(move || filter_alone(amount)).await??;
    rows.push(Row::absolute(
        "v",
        "RFB filter, clipboard forbidden: more CPU than the gateway takes without it",
        alone / open.cpu * 100.0,
        "%",
        format!("{alone:.4} CPU-s/GiB alone"),
        Threshold::AtMost(5.0),
    ));

    let mut browsers = (open_stream(testbed, 'd', 4).await?, open_stream(testbed, 'f', 4).await?);
    let (mut open, mut filtered) = (Vec::new(), Vec::new());
    for turn in 0..settings.scaled(800, 80) {
        let (browser, times) = if turn % 2 == 0 {
            (&mut browsers.0, &mut open)
        } else {
            (&mut browsers.1, &mut filtered)
        };
        for _ in 0..50 {
            let began = Instant::now();
            browser.send(&KEY_EVENT).await?;
            browser.read_exact(1).await?;
            times.push(began.elapsed());
        }
    }
    let ms = |times: &mut Vec<Duration>, q| quantile(times, q).as_secs_f64() * 1e3;
    let (open, filtered) = (
        (ms(&mut open, 0.5), ms(&mut open, 0.99)),
        (ms(&mut filtered, 0.5), ms(&mut filtered, 0.99)),
    );
    rows.push(Row::relative(
        "v",
        "RFB key and its answer, clipboard forbidden, p50 / p99",
        format!("{:.3} / {:.3} ms", filtered.0, filtered.1),
        format!("nothing forbidden: {:.3} / {:.3} ms", open.0, open.1),
        filtered.0 / open.0,
        Threshold::AtMost(MAX_RATIO),
    ));
    Ok(())
}

struct ByteCounter(u64);

impl FilterSink for ByteCounter {
    fn pass(&mut self, piece: Bytes) {
        self.0 += std::hint::black_box(&piece).len() as u64;
    }

    fn refuse(&mut self, _: RefusedContent, _: u64) {}
}

/// CPU seconds per GiB of the filter alone, in chunks that end somewhere in a rectangle, as the
/// relay reads them.
fn filter_alone(bytes: u64) -> Outcome<f64> {
    let init = ServerInit::parse(&SERVER_INIT)?.ok_or_else(|| fail("no desktop"))?;
    let rules = Permissions { clipboard_in: false, clipboard_out: false, input: true };
    let (mut filter, mut passed) =
        (DownFilter::new(rules, SharedPixelFormat::new(init.format)), ByteCounter(0));
    let stream = Bytes::from(updates().repeat(16));
    let before = thread_cpu();
    while passed.0 < bytes {
        for start in (0..stream.len()).step_by(60_000) {
            filter.feed(&stream.slice(start..stream.len().min(start + 60_000)), &mut passed)?;
        }
    }
    Ok((thread_cpu() - before) * f64::from(1 << 30) / passed.0 as f64)
}

/// A stream after its handshake, and its first message: an update request (3), or a key (4) and its
/// answer.
async fn open_stream(testbed: &Testbed, kind: char, message: u8) -> Outcome<Browser> {
    let mut browser = testbed
        .connector
        .open_rfb(testbed.https, &format!("/{kind}/{}", testbed.desktop.rfb.port()), message)
        .await?;
    if message == 3 {
        browser.send(&[0; 9]).await?;
    } else {
        browser.send(&KEY_EVENT[1..]).await?;
        browser.read_exact(1).await?;
    }
    Ok(browser)
}
