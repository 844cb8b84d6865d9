//! The lines measured on the whole testbed: latency, memory, session setup, handshake flood.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::browser::Browser;
use crate::machine::{quantile, resident_bytes};
use crate::table::{Row, Threshold};
use crate::testbed::Testbed;
use crate::wakeups::{self, SingleCpuPinning};
use crate::{Outcome, Settings, fail};

/// First session numbers of each scenario, so that none share a session.
const ECHO_SESSION: u64 = 0;
const BULK_SESSION: u64 = 1;
const DESKTOP_SESSIONS: u64 = 10;
const PACED_SESSIONS: u64 = 1_000;
const IDLE_SESSIONS: u64 = 1_000_000;

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Median and 99th percentile of both paths, in milliseconds.
struct Latency {
    wss: (f64, f64),
    tcp: (f64, f64),
}

impl Latency {
    fn added(&self) -> (f64, f64) {
        ((self.wss.0 - self.tcp.0).max(0.0), (self.wss.1 - self.tcp.1).max(0.0))
    }

    /// The rows of line (c).
    fn rows(&self, when: &str, rows: &mut Vec<Row>) {
        let (path, added) =
            (format!("whole path {:.3} / {:.3} ms", self.wss.0, self.wss.1), self.added());
        let bare = format!(
            "bare TCP echo {:.3} / {:.3} ms; waking a thread takes {:.3} ms",
            self.tcp.0,
            self.tcp.1,
            ms(wakeups::wakeup_latency())
        );
        let figure = format!("64-byte round trip, added p50, {when} ({path})");
        rows.push(Row::absolute("c", figure, added.0, "ms", bare.clone(), Threshold::AtMost(0.25)));
        rows.push(Row::absolute(
            "c",
            format!("64-byte round trip, added p99, {when}"),
            added.1,
            "ms",
            bare,
            Threshold::AtMost(1.0),
        ));
    }
}

/// Round trips of 64 bytes over WSS and over bare TCP, alternating, so that both see the same
/// machine state, with `pause` between two.
async fn latency(
    wss: &mut Browser,
    tcp: &mut TcpStream,
    count: usize,
    pause: Duration,
) -> Outcome<Latency> {
    let (mut far, mut near) = (Vec::new(), Vec::new());
    let (message, mut back) = ([0x41; 64], [0; 64]);
    for turn in 0..count / 50 {
        for _ in 0..50 {
            let began = Instant::now();
            if turn % 2 == 0 {
                wss.round_trip(&message).await?;
                far.push(began.elapsed());
            } else {
                tcp.write_all(&message).await?;
                tcp.read_exact(&mut back).await?;
                near.push(began.elapsed());
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }
    let both = |times: &mut Vec<Duration>| (ms(quantile(times, 0.5)), ms(quantile(times, 0.99)));
    Ok(Latency { wss: both(&mut far), tcp: both(&mut near) })
}

async fn open_echo_pair(testbed: &mut Testbed) -> Outcome<(Browser, TcpStream)> {
    let wss =
        testbed.connector.open_rfb(testbed.https, &format!("/s/{ECHO_SESSION}"), b'e').await?;
    let mut tcp = TcpStream::connect(testbed.desktop.raw).await?;
    tcp.set_nodelay(true)?;
    tcp.write_all(b"e").await?;
    Ok((wss, tcp))
}

/// Opens streams that discard what they receive, until the set is dropped; the counter has the
/// bytes.
async fn open_discarding_streams(
    testbed: &Testbed,
    sessions: std::ops::Range<u64>,
    letter: u8,
) -> Outcome<(JoinSet<()>, Arc<AtomicU64>)> {
    let (mut tasks, count) = (JoinSet::new(), Arc::<AtomicU64>::default());
    for n in sessions {
        let browser = testbed.connector.open_rfb(testbed.https, &format!("/s/{n}"), letter).await?;
        let count = count.clone();
        tasks.spawn(async move { drop(browser.discard_all(count).await) });
    }
    Ok((tasks, count))
}

/// (c) and (d): round trips alone, beside one saturating stream, beside 200 desktops.
pub async fn round_trips(
    settings: &Settings,
    testbed: &mut Testbed,
    rows: &mut Vec<Row>,
) -> Outcome<()> {
    let crowd = 200;
    if testbed.launch(ECHO_SESSION, 2, 1).await?.failed
        + testbed.launch(DESKTOP_SESSIONS, crowd, 8).await?.failed
        > 0
    {
        return Err(fail("launches failed"));
    }
    let (mut wss, mut tcp) = open_echo_pair(testbed).await?;
    latency(&mut wss, &mut tcp, 1000, Duration::ZERO).await?;

    let trips = settings.scaled(40_000, 4_000) as usize;
    let idle = latency(&mut wss, &mut tcp, trips, Duration::ZERO).await?;
    idle.rows("idle", rows);
    {
        let _together =
            SingleCpuPinning::pin(&[std::process::id(), testbed.gateway.pid, testbed.agent.pid])?;
        latency(&mut wss, &mut tcp, 1000, Duration::ZERO).await?;
        latency(&mut wss, &mut tcp, trips, Duration::ZERO)
            .await?
            .rows("idle, all on one processor", rows);
    }

    let count = settings.scaled(4_000, 1_000) as usize;
    let desktops = format!("{crowd} desktops at 1 Mbit/s");
    for (beside, sessions, letter) in [
        ("one saturating stream", BULK_SESSION..BULK_SESSION + 1, b's'),
        (desktops.as_str(), DESKTOP_SESSIONS..DESKTOP_SESSIONS + crowd, b'd'),
    ] {
        let (streams, moved) = open_discarding_streams(testbed, sessions, letter).await?;
        let began = Instant::now();
        let loaded = latency(&mut wss, &mut tcp, count, Duration::from_millis(1)).await?;
        let rate = moved.load(Ordering::Relaxed) as f64 * 8.0 / 1e9 / began.elapsed().as_secs_f64();
        drop(streams);
        rows.push(Row::absolute(
            "d",
            format!("the same beside {beside} ({rate:.1} Gbit/s), path p99 less the idle bare p50"),
            loaded.wss.1 - idle.tcp.0,
            "ms",
            format!("bare TCP echo {:.3} / {:.3} ms", loaded.tcp.0, loaded.tcp.1),
            Threshold::AtMost(5.0),
        ));
    }
    testbed.gateway.request(&format!("stop {ECHO_SESSION} 2")).await?;
    testbed.gateway.request(&format!("stop {DESKTOP_SESSIONS} {crowd}")).await?;
    Ok(())
}

/// (g) Launches: one after another, then 500 a second.
pub async fn session_setup(
    settings: &Settings,
    testbed: &mut Testbed,
    rows: &mut Vec<Row>,
) -> Outcome<()> {
    let (each, rate, seconds) = (settings.scaled(1000, 200), 500, settings.scaled(6, 2));
    let calm = testbed.launch(PACED_SESSIONS, each, 1).await?;
    let mut times: Vec<_> = calm.us.iter().map(|&us| Duration::from_micros(us)).collect();
    let (p50, p99) = (ms(quantile(&mut times, 0.5)), ms(quantile(&mut times, 0.99)));
    let note = format!("p50 {p50:.2} ms, {} launches, {} failed", each, calm.failed);
    rows.push(Row::absolute(
        "g",
        "session set-up: order, keys, handshake, dial, greeting; p99",
        p99,
        "ms",
        note,
        Threshold::AtMost(15.0),
    ));
    testbed.gateway.request(&format!("stop {PACED_SESSIONS} {each}")).await?;

    let count = rate * seconds;
    let answer = testbed.gateway.request(&format!("pace {PACED_SESSIONS} {count} {rate}")).await?;
    let crowd: crate::testbed::LaunchTimes = serde_json::from_str(&answer)?;
    let mut times: Vec<_> = crowd.us.iter().map(|&us| Duration::from_micros(us)).collect();
    let note = format!(
        "{} failed; p50 {:.1}, p99 {:.1} ms meanwhile",
        crowd.failed,
        ms(quantile(&mut times, 0.5)),
        ms(quantile(&mut times, 0.99))
    );
    let reached = if crowd.failed == 0 { crowd.us.len() as f64 / crowd.seconds } else { 0.0 };
    rows.push(Row::absolute(
        "g",
        format!("launches sustained without loss, {seconds} s at {rate}/s"),
        reached,
        "/s",
        note,
        Threshold::AtLeast(rate as f64 * 0.98),
    ));
    testbed.gateway.request(&format!("stop {PACED_SESSIONS} {count}")).await?;
    Ok(())
}

/// (f) Resident memory of the gateway for each idle open session.
pub async fn memory(settings: &Settings, rows: &mut Vec<Row>) -> Outcome<()> {
    // A new testbed, so that memory of other lines is not counted.
    let mut testbed = Testbed::start().await?;
    testbed.launch(0, 1, 1).await?;
    let empty = (resident_bytes(testbed.gateway.pid)?, resident_bytes(testbed.agent.pid)?);
    let (mut open, mut figures) = (Vec::new(), Vec::new());
    for total in [1_000, settings.scaled(10_000, 2_000)] {
        let from = open.len() as u64;
        let launches = testbed.launch(IDLE_SESSIONS + from, total - from, 16).await?;
        if launches.failed > 0 {
            return Err(fail(format!("{} launches failed", launches.failed)));
        }
        let (browsers, https) = (&testbed.connector, testbed.https);
        let more: Vec<Browser> = futures_util::stream::iter(from..total)
            .map(|n| async move {
                browsers.open_rfb(https, &format!("/s/{}", IDLE_SESSIONS + n), b'q').await
            })
            .buffer_unordered(16)
            .try_collect()
            .await?;
        open.extend(more);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let per =
            |now: u64, before: u64| (now.saturating_sub(before)) as f64 / 1024.0 / total as f64;
        let ours = per(resident_bytes(testbed.gateway.pid)?, empty.0);
        let agent = per(resident_bytes(testbed.agent.pid)?, empty.1);
        eprintln!("  {total} sessions: gateway {ours:.1} KiB each, agent {agent:.1}");
        figures.push(ours);
        let figure = format!("gateway memory of an idle open session, at {total}");
        rows.push(Row::absolute(
            "f",
            figure,
            ours,
            "KiB",
            format!("the agent's half: {agent:.1} KiB"),
            Threshold::AtMost(64.0),
        ));
    }
    if let [few, many] = figures[..] {
        rows.push(Row::absolute(
            "f",
            "linear: per session at most so much more among many than among few",
            many / few,
            "x",
            "",
            Threshold::AtMost(1.05),
        ));
    }
    drop(open);
    testbed.shutdown().await;
    Ok(())
}

/// (h) Round trips of a live session while invalid initiations arrive.
pub async fn flood(settings: &Settings, testbed: &mut Testbed, rows: &mut Vec<Row>) -> Outcome<()> {
    if testbed.launch(ECHO_SESSION, 1, 1).await?.failed > 0 {
        return Err(fail("a launch failed"));
    }
    let (mut wss, mut tcp) = open_echo_pair(testbed).await?;
    let count = settings.scaled(6_000, 1_000) as usize;
    for (what, aimed) in [("random bytes", false), ("aimed at our key", true)] {
        let calm = latency(&mut wss, &mut tcp, count, Duration::from_millis(1)).await?;
        let flood = Flood::start(testbed.udp, 50_000, aimed)?;
        let busy = latency(&mut wss, &mut tcp, count, Duration::from_millis(1)).await?;
        let rate = flood.stop();
        let figure =
            format!("p99 of a live session in a flood of handshakes, {what} ({rate:.0}/s sent)");
        let describe = |l: &Latency| {
            format!("{:.3} / {:.3} ms (bare TCP {:.3} / {:.3})", l.wss.0, l.wss.1, l.tcp.0, l.tcp.1)
        };
        rows.push(Row::relative(
            "h",
            figure,
            describe(&busy),
            format!("without: {}", describe(&calm)),
            busy.wss.1 / calm.wss.1,
            Threshold::AtMost(2.0),
        ));
    }
    testbed.gateway.request(&format!("stop {ECHO_SESSION} 1")).await?;
    Ok(())
}

/// Sends invalid initiations from a separate thread.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<f64>,
}

impl Flood {
    /// `aimed`: with a valid mac1, which needs only the gateway's public key.
    fn start(to: SocketAddr, per_second: u32, aimed: bool) -> Outcome<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(to)?;
        let stop = Arc::<AtomicBool>::default();
        let over = stop.clone();
        let mut message = crate::baselines::initiation_to_gateway()?;
        let thread = std::thread::spawn(move || {
            let (began, mut sent, mut seed) = (Instant::now(), 0u64, 1u64);
            while !over.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
                while sent < due {
                    if !aimed {
                        for byte in &mut message[4..] {
                            seed = seed
                                .wrapping_mul(6_364_136_223_846_793_005)
                                .wrapping_add(1_442_695_040_888_963_407);
                            *byte = (seed >> 33) as u8;
                        }
                    }
                    let _ = socket.send(&message);
                    sent += 1;
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            sent as f64 / began.elapsed().as_secs_f64()
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0.0)
    }
}
