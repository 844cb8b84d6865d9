//! The baselines: other programs that do a part of the same work. Each is optional; a missing one
//! is named in its line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use portcullis::tunnel::{
    Hub, HubConfig, MTU, MTU_MAX, PeerConfig, PresharedKey, PrivateKey, Profile, TunnelId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::machine::{cpu_seconds, is_installed};
use crate::table::{Row, Threshold};
use crate::testbed::Testbed;
use crate::tunnel::Speed;
use crate::{Outcome, Settings, fail};

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// An initiation for the gateway from an unknown peer, with a valid mac1.
pub fn initiation_to_gateway() -> Outcome<Vec<u8>> {
    let gateway = x25519::PublicKey::from(*crate::processes::gateway_key().public_key().as_bytes());
    let mut unknown = Tunn::new(x25519::StaticSecret::from([77; 32]), gateway, None, None, 1, None);
    let mut buffer = vec![0; 256];
    match unknown.format_handshake_initiation(&mut buffer, true) {
        TunnResult::WriteToNetwork(message) => Ok(message.to_vec()),
        _ => Err(fail("no initiation")),
    }
}

fn free_port() -> Outcome<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn connect_when_ready(address: SocketAddr) -> Outcome<TcpStream> {
    let reaching = async {
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => return stream,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(START_TIMEOUT, reaching).await.map_err(|_| fail(format!("no answer at {address}")))
}

fn quiet_command(path: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

// ---- (b) throughput ----

/// Throughput of one stream, against onetun and wireguard-go.
pub async fn throughput(settings: &Settings, ours: Speed, rows: &mut Vec<Row>) -> Outcome<()> {
    let seconds = settings.scaled(5, 2);
    let cargo_bin =
        std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".cargo/bin");
    let onetun = [
        PathBuf::from("onetun"),
        cargo_bin.join("onetun"),
        std::env::var_os("ONETUN").map(PathBuf::from).unwrap_or_default(),
    ]
    .into_iter()
    .find(|path| path.is_file() || path.to_str().is_some_and(is_installed));
    let figure = "throughput of one stream against onetun";
    match onetun {
        None => rows.push(Row::unmeasured(
            "b",
            figure,
            "onetun: not installed (`cargo install onetun`)",
        )),
        Some(program) => match onetun_speed_with_retry(program, seconds).await {
            Err(error) => {
                rows.push(Row::unmeasured("b", figure, format!("onetun did not work: {error}")))
            }
            Ok(gbits) => {
                let peer = format!("onetun to our agent: {gbits:.2} Gbit/s");
                rows.push(Row::relative(
                    "b",
                    figure,
                    format!("{:.1} Gbit/s", ours.gbits),
                    peer,
                    ours.gbits / gbits,
                    Threshold::AtLeast(30.0),
                ));
            }
        },
    }
    let figure = "throughput of one stream against wireguard-go and kernel TCP";
    let missing: Vec<_> = ["wireguard-go", "wg", "iperf3", "ip"]
        .into_iter()
        .filter(|program| !is_installed(program))
        .collect();
    if !missing.is_empty() {
        rows.push(Row::unmeasured("b", figure, format!("not installed: {}", missing.join(", "))));
        return Ok(());
    }
    match wireguard_go_speed(seconds).await {
        Err(error) => {
            rows.push(Row::unmeasured("b", figure, format!("wireguard-go did not work: {error}")))
        }
        Ok(gbits) => {
            let peer = format!("wireguard-go, two namespaces, iperf3: {gbits:.2} Gbit/s");
            rows.push(Row::relative(
                "b",
                figure,
                format!("{:.1} Gbit/s", ours.gbits),
                peer,
                ours.gbits / gbits,
                Threshold::AtLeast(5.0),
            ));
        }
    }
    Ok(())
}

/// A connection made while onetun still starts may stay silent, so one retry is allowed.
async fn onetun_speed_with_retry(program: PathBuf, seconds: u64) -> Outcome<f64> {
    match onetun_speed(program.clone(), seconds).await {
        Ok(gbits) => Ok(gbits),
        Err(_) => onetun_speed(program, seconds).await,
    }
}

/// Throughput with onetun on one end and our hub on the other, in Gbit/s.
async fn onetun_speed(program: PathBuf, seconds: u64) -> Outcome<f64> {
    let hub = Hub::bind(HubConfig { listen: "127.0.0.1:0".parse()? }).await?;
    let (own, other) = (PrivateKey::generate()?, PrivateKey::generate()?);
    let psk = PresharedKey::generate()?;
    let tunnel = hub.add_peer(PeerConfig {
        id: TunnelId(Uuid::from_u128(1)),
        private_key: own.clone(),
        peer_public_key: other.public_key(),
        preshared_key: psk.clone(),
        endpoint: None,
        local_addr: Ipv4Addr::new(10, 0, 0, 1).into(),
        peer_addr: Ipv4Addr::new(10, 0, 0, 2).into(),
        keepalive: None,
        profile: Profile::Stream,
    })?;
    let mut listener = tunnel.listen(5900, 8)?;
    let serving = tokio::spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            tokio::spawn(async move {
                let chunk = vec![0x5a; 64 << 10];
                while stream.write_all(&chunk).await.is_ok() {}
            });
        }
    });
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("key");
    std::fs::write(
        &secret,
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, *other.expose()),
    )?;
    let local = free_port()?;
    let mut child = quiet_command(program)
        .arg(format!("{}:10.0.0.1:5900:TCP", local))
        .args([
            "--endpoint-addr",
            &hub.local_addr().to_string(),
            "--endpoint-public-key",
            &own.public_key().to_string(),
        ])
        .args([
            "--preshared-key",
            &psk.expose_base64(),
            "--source-peer-ip",
            "10.0.0.2",
            "--max-transmission-unit",
            "1420",
        ])
        .arg("--private-key-file")
        .arg(&secret)
        .spawn()?;
    let mut stream = connect_when_ready(local).await?;
    let mut buffer = vec![0; 256 << 10];
    let warm = Instant::now() + Duration::from_secs(1);
    let mut counting: Option<(Instant, u64)> = None;
    let speed = loop {
        let n = timeout(START_TIMEOUT, stream.read(&mut buffer))
            .await
            .map_err(|_| fail("no bytes arrived"))??;
        if n == 0 {
            break Err(fail("the stream ended"));
        }
        let now = Instant::now();
        match &mut counting {
            None if now >= warm => counting = Some((now, 0)),
            None => {}
            Some((began, bytes)) => {
                *bytes += n as u64;
                let time = now.duration_since(*began);
                if time.as_secs() >= seconds {
                    break Ok(*bytes as f64 * 8.0 / 1e9 / time.as_secs_f64());
                }
            }
        }
    };
    let _ = child.kill().await;
    serving.abort();
    hub.shutdown().await;
    speed
}

/// Two network namespaces joined by a veth pair, and the programs that run in them. Removed when
/// dropped.
struct Netns {
    names: [String; 2],
    programs: Vec<Child>,
}

impl Netns {
    async fn new() -> Outcome<Self> {
        let tag = std::process::id();
        let netns =
            Self { names: [format!("pcb{tag}a"), format!("pcb{tag}b")], programs: Vec::new() };
        let [a, b] = &netns.names;
        ip(&["netns", "add", a]).await?;
        ip(&["netns", "add", b]).await?;
        ip(&[
            "link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b,
        ])
        .await?;
        for (name, address) in [(a, "192.0.2.1/24"), (b, "192.0.2.2/24")] {
            ip(&["-n", name, "address", "add", address, "dev", "cable"]).await?;
            ip(&["-n", name, "link", "set", "cable", "up"]).await?;
            ip(&["-n", name, "link", "set", "lo", "up"]).await?;
        }
        Ok(netns)
    }

    fn command_in(&self, n: usize, program: &str) -> Command {
        let mut command = quiet_command("ip");
        command.args(["netns", "exec", &self.names[n], program]);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        for program in &mut self.programs {
            let _ = program.start_kill();
        }
        for name in &self.names {
            let _ = std::process::Command::new("ip")
                .args(["netns", "del", name])
                .stderr(Stdio::null())
                .status();
        }
    }
}

async fn ip(arguments: &[&str]) -> Outcome<()> {
    run(quiet_command("ip").args(arguments)).await.map(drop)
}

async fn run(command: &mut Command) -> Outcome<String> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(fail(
        String::from_utf8_lossy(&output.stderr)
            .lines()
            .next()
            .unwrap_or("a command failed")
            .to_owned(),
    ))
}

async fn wireguard_go_speed(seconds: u64) -> Outcome<f64> {
    let mut netns = Netns::new().await?;
    let folder = tempfile::tempdir()?;
    let keys = [PrivateKey::generate()?, PrivateKey::generate()?];
    let tag = std::process::id() % 100_000;
    let names = [format!("pcba{tag}"), format!("pcbb{tag}")];
    for (n, name) in names.iter().enumerate() {
        let program = netns
            .command_in(n, "wireguard-go")
            .args(["-f", name])
            .env("LOG_LEVEL", "error")
            .env("WG_PROCESS_FOREGROUND", "1")
            .spawn()?;
        netns.programs.push(program);
        let secret = folder.path().join(name);
        std::fs::write(
            &secret,
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, *keys[n].expose()),
        )?;
        let began = Instant::now();
        let (port, there) = (format!("{}", 51820 + n), format!("192.0.2.{}:{}", 2 - n, 51821 - n));
        let (inside, other) =
            (format!("10.99.0.{}/32", 2 - n), keys[1 - n].public_key().to_string());
        loop {
            let mut set = netns.command_in(n, "wg");
            set.args(["set", name, "listen-port", &port, "private-key"]).arg(&secret).args([
                "peer",
                &other,
                "allowed-ips",
                &inside,
                "endpoint",
                &there,
            ]);
            match run(&mut set).await {
                Ok(_) => break,
                Err(error) if began.elapsed() > START_TIMEOUT => return Err(error),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
        ip(&[
            "-n",
            &netns.names[n],
            "address",
            "add",
            &format!("10.99.0.{}/24", n + 1),
            "dev",
            name,
        ])
        .await?;
        ip(&["-n", &netns.names[n], "link", "set", name, "mtu", "1420", "up"]).await?;
    }
    let server = netns.command_in(1, "iperf3").args(["-s", "-B", "10.99.0.2"]).spawn()?;
    netns.programs.push(server);
    let began = Instant::now();
    loop {
        let mut client = netns.command_in(0, "iperf3");
        let report =
            run(client.args(["-c", "10.99.0.2", "-t", &seconds.to_string(), "-O", "1", "-J"]))
                .await;
        let report: serde_json::Value =
            serde_json::from_str(&report.unwrap_or_default()).unwrap_or_default();
        match report["end"]["sum_received"]["bits_per_second"].as_f64() {
            Some(bits) => return Ok(bits / 1e9),
            // Its server may not listen yet.
            None if began.elapsed() < START_TIMEOUT => sleep(Duration::from_millis(100)).await,
            None => return Err(fail(report["error"].as_str().unwrap_or("iperf3 reports nothing"))),
        }
    }
}

// ---- (e) WSS in bulk ----

const JUMBO_PATH: &str = "through the tunnel, on a path that carries jumbo frames";

/// WSS in bulk through the gateway, with the tunnel and without, against websockify.
pub async fn bulk(settings: &Settings, testbed: &mut Testbed, rows: &mut Vec<Row>) -> Outcome<()> {
    // One session with Ethernet's MTU, one that may discover that loopback carries more.
    const SESSIONS: [(u64, usize); 2] = [(900, MTU), (901, MTU_MAX)];
    for (session, mtu) in SESSIONS {
        testbed.gateway.request(&format!("mtu {mtu}")).await?;
        if testbed.launch(session, 1, 1).await?.failed > 0 {
            return Err(fail("a launch failed"));
        }
    }
    let port = free_port()?;
    let websockify = if is_installed("websockify") {
        let child = quiet_command("websockify")
            .args(["--ssl-only", "--cert"])
            .arg(&testbed.certificate.0)
            .arg("--key")
            .arg(&testbed.certificate.1)
            .args([port.to_string(), testbed.desktop.raw.to_string()])
            .spawn()?;
        drop(connect_when_ready(port).await?);
        Some(child)
    } else {
        None
    };
    let time = Duration::from_secs(settings.scaled(4, 2));
    let (mut tunnel, mut wide, mut direct, mut peer) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let gateway = testbed.gateway.pid;
        for ((session, _), speeds) in SESSIONS.into_iter().zip([&mut tunnel, &mut wide]) {
            let browser =
                testbed.connector.open_rfb(testbed.https, &format!("/s/{session}"), b's').await?;
            speeds.push(measure_download(browser, gateway, time).await?);
        }
        let browser = testbed
            .connector
            .open_rfb(testbed.https, &format!("/d/{}", testbed.desktop.rfb.port()), b's')
            .await?;
        direct.push(measure_download(browser, gateway, time).await?);
        if let Some(child) = &websockify {
            let mut browser = testbed.connector.open(port, "/").await?;
            browser.send(b"s").await?;
            peer.push(measure_download(browser, child.id().unwrap_or(0), time).await?);
        }
        eprintln!(
            "  tunnel {:?}, large packets {:?}, direct {:?}, websockify {:?}",
            tunnel.last(),
            wide.last(),
            direct.last(),
            peer.last()
        );
    }
    testbed.gateway.request("stop 900 2").await?;
    testbed.gateway.request(&format!("mtu {MTU}")).await?;
    let (tunnel, wide, direct) =
        (Speed::median(&tunnel), Speed::median(&wide), Speed::median(&direct));
    let describe = |speed: Speed| {
        (format!("{:.2} CPU-s/GiB", speed.cpu), format!("{:.1} Gbit/s", speed.gbits))
    };
    if peer.is_empty() {
        for (what, speed) in
            [("through the tunnel", tunnel), (JUMBO_PATH, wide), ("to a direct target", direct)]
        {
            let (cpu, gbits) = describe(speed);
            rows.push(Row::informational(
                "e",
                format!("WSS in bulk {what}: gateway"),
                format!("{cpu}, {gbits}"),
                "websockify: not installed".into(),
            ));
        }
        return Ok(());
    }
    let peer = Speed::median(&peer);
    let ways = [
        ("through the tunnel", tunnel, 1.5, 0.5),
        (JUMBO_PATH, wide, 1.5, 0.5),
        ("to a direct target", direct, 0.7, 1.0),
    ];
    for (what, speed, cpu_limit, gbits_limit) in ways {
        let ((cpu, gbits), (their_cpu, their_gbits)) = (describe(speed), describe(peer));
        rows.push(Row::relative(
            "e",
            format!("WSS in bulk {what}: CPU of the gateway"),
            cpu,
            format!("websockify: {their_cpu}"),
            speed.cpu / peer.cpu,
            Threshold::AtMost(cpu_limit),
        ));
        rows.push(Row::relative(
            "e",
            format!("WSS in bulk {what}: throughput"),
            gbits,
            format!("websockify: {their_gbits}"),
            speed.gbits / peer.gbits,
            Threshold::AtLeast(gbits_limit),
        ));
    }
    Ok(())
}

/// CPU and throughput of a process that sends to a browser for `time`.
pub async fn measure_download(
    browser: crate::browser::Browser,
    pid: u32,
    time: Duration,
) -> Outcome<Speed> {
    let count = Arc::<AtomicU64>::default();
    let counted = count.clone();
    let discarding = tokio::spawn(async move { drop(browser.discard_all(counted).await) });
    sleep(Duration::from_millis(500)).await;
    let (bytes, used, began) = (count.load(Ordering::Relaxed), cpu_seconds(pid), Instant::now());
    sleep(time).await;
    let speed =
        Speed::of(count.load(Ordering::Relaxed) - bytes, cpu_seconds(pid) - used, began.elapsed());
    discarding.abort();
    // The stream ends before the next one begins.
    let _ = discarding.await;
    sleep(Duration::from_millis(300)).await;
    Ok(speed)
}
