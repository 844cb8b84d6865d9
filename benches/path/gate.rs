//! (v) RFB with the gates of policy and without: the gateway's CPU for a full stream of updates, and the round trip of a key. The stream goes straight to
//! the desktop's port, without a tunnel, so that the gates' part is as large as it can be.

use std::time::{Duration, Instant};

use crate::browser::Browser;
use crate::house::House;
use crate::machine::quantile;
use crate::peers::drain;
use crate::table::{Row, Target};
use crate::tunnel::Speed;
use crate::{Outcome, Settings};

/// The gates may cost so much of what the relay costs.
const MOST: f64 = 1.05;
/// A key, down (RFC 6143 section 7.5.4); the desktop rings for each.
const KEY: [u8; 8] = [4, 1, 0, 0, 0, 0, 0, 0x61];

/// Measures both, in turns.
pub async fn measure(settings: &Settings, house: &mut House, rows: &mut Vec<Row>) -> Outcome<()> {
    let time = Duration::from_secs(settings.scaled(4, 2));
    let (mut open, mut gated) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds.max(3) {
        for (kind, speeds) in [('d', &mut open), ('f', &mut gated)] {
            let browser = join(house, kind, 3).await?;
            speeds.push(drain(browser, house.gateway.pid, time).await?);
        }
        eprintln!("  open {:?}, gated {:?}", open.last(), gated.last());
    }
    let (open, gated) = (Speed::median(&open), Speed::median(&gated));
    let words = |speed: Speed| format!("{:.2} CPU-s/GiB at {:.1} Gbit/s", speed.cpu, speed.gbits);
    rows.push(Row::against(
        "v",
        "RFB updates in bulk, clipboard forbidden: CPU of the gateway",
        words(gated),
        format!("nothing forbidden: {}", words(open)),
        gated.cpu / open.cpu,
        Target::AtMost(MOST),
    ));

    let mut browsers = (join(house, 'd', 4).await?, join(house, 'f', 4).await?);
    let (mut open, mut gated) = (Vec::new(), Vec::new());
    for turn in 0..settings.scaled(800, 80) {
        let (browser, times) = if turn % 2 == 0 { (&mut browsers.0, &mut open) } else { (&mut browsers.1, &mut gated) };
        for _ in 0..50 {
            let began = Instant::now();
            browser.send(&KEY).await?;
            browser.expect(1).await?;
            times.push(began.elapsed());
        }
    }
    let ms = |times: &mut Vec<Duration>, q| quantile(times, q).as_secs_f64() * 1e3;
    let (open, gated) = ((ms(&mut open, 0.5), ms(&mut open, 0.99)), (ms(&mut gated, 0.5), ms(&mut gated, 0.99)));
    rows.push(Row::against(
        "v",
        "RFB key and its answer, clipboard forbidden, p50 / p99",
        format!("{:.3} / {:.3} ms", gated.0, gated.1),
        format!("nothing forbidden: {:.3} / {:.3} ms", open.0, open.1),
        gated.0 / open.0,
        Target::AtMost(MOST),
    ));
    Ok(())
}

/// A stream past its greeting, and its first message: an update request (3), or a key (4) and its answer.
async fn join(house: &House, kind: char, message: u8) -> Outcome<Browser> {
    let mut browser = house.browsers.join(house.https, &format!("/{kind}/{}", house.desktop.rfb.port()), message).await?;
    if message == 3 {
        browser.send(&[0; 9]).await?;
    } else {
        browser.send(&KEY[1..]).await?;
        browser.expect(1).await?;
    }
    Ok(browser)
}
