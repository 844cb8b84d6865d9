//! (w) A web application through the gateway, beside nginx as a reverse proxy of the same
//! application. Here the whole product runs, the binary itself with its store and its log of
//! requests; the application and the browsers are processes of this program. All speak HTTP/1.1
//! with connections kept alive; TLS is toward the browsers alone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use crate::house::Process;
use crate::machine::{cpu, installed, median, program, resident};
use crate::office::Office;
use crate::table::{Row, Target};
use crate::{Outcome, Settings, fail};

/// Connections of the browsers.
const CONNECTIONS: u32 = 64;
/// Connections of a bulk transfer, and what one request moves.
const STREAMS: u32 = 4;
const BULK: u64 = 64 << 20;
/// Sessions open and idle at once.
const IDLE: usize = 990;

/// What one run came to.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Load {
    pub requests: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Where browsers go: an address, the name they call it, the cookie they bring.
#[derive(Clone, Debug)]
pub struct Door {
    pub at: SocketAddr,
    pub name: String,
    pub cookie: String,
}

/// One of those measured: its door, and the processes whose CPU is its own.
struct Way {
    words: &'static str,
    door: Door,
    pids: Vec<u32>,
    calls: Vec<(Load, f64)>,
    bulk: Vec<(Load, f64)>,
}

impl Way {
    fn new(words: &'static str, door: Door, pids: Vec<u32>) -> Self {
        Self { words, door, pids, calls: Vec::new(), bulk: Vec::new() }
    }

    /// Runs the browsers; answers with what came, and the CPU seconds that the proxy used.
    async fn run(&self, path: &str, connections: u32, time: Duration) -> Outcome<(Load, f64)> {
        let used = || self.pids.iter().map(|pid| cpu(*pid)).sum::<f64>();
        let before = used();
        let output = Command::new(std::env::current_exe()?)
            .args([
                "load",
                &self.door.at.to_string(),
                &self.door.name,
                &self.door.cookie,
                path,
                &connections.to_string(),
                &time.as_millis().to_string(),
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await?;
        let after = used();
        let load: Load = serde_json::from_slice(&output.stdout).map_err(|_| {
            fail(format!(
                "{}: the browsers failed: {}, {:?}",
                self.words,
                output.status,
                String::from_utf8_lossy(&output.stdout)
            ))
        })?;
        Ok((load, after - before))
    }

    fn rate(&self) -> f64 {
        median(self.calls.iter().map(|(load, _)| load.requests as f64 / load.seconds).collect())
    }

    fn speed(&self) -> f64 {
        median(
            self.bulk
                .iter()
                .map(|(load, _)| load.bytes as f64 * 8.0 / load.seconds / 1e9)
                .collect(),
        )
    }

    /// CPU microseconds of a request, and CPU seconds of a GiB.
    fn cost(&self) -> (f64, f64) {
        let each =
            median(self.calls.iter().map(|(load, cpu)| cpu * 1e6 / load.requests as f64).collect());
        let gib = median(
            self.bulk
                .iter()
                .map(|(load, cpu)| cpu * f64::from(1 << 30) / load.bytes as f64)
                .collect(),
        );
        (each, gib)
    }

    fn p99(&self) -> (f64, f64) {
        let of = |pick: fn(&Load) -> f64| {
            median(self.calls.iter().map(|(load, _)| pick(load)).collect())
        };
        (of(|load| load.p50_ms), of(|load| load.p99_ms))
    }
}

/// Measures all ways, in turns.
pub async fn measure(settings: &Settings, rows: &mut Vec<Row>) -> Outcome<()> {
    if !installed("nginx") {
        rows.push(Row::absent(
            "w",
            "web application: requests, bulk, CPU",
            "nginx is not installed (package nginx-light)",
        ));
        return Ok(());
    }
    let (application, at) = Process::start(&["application".into()]).await?;
    let at: SocketAddr = at.parse()?;
    let folder = tempfile::tempdir()?;
    let mut office = Office::open(folder.path(), at).await?;
    let tunnel = office.launch("ws-bench-tunnel", &office.through_agent()).await?;
    let direct = office.launch("ws-bench-direct", &serde_json::json!({ "direct": "app" })).await?;
    let nginx = Nginx::start(folder.path(), at).await?;
    let mut ways = [
        Way::new("through the tunnel", tunnel, vec![office.gateway(), office.agent()]),
        Way::new("to a direct target", direct, vec![office.gateway()]),
        Way::new("nginx", nginx.door.clone(), nginx.pids()),
    ];
    let time = Duration::from_secs(settings.scaled(5, 2));
    for round in 0..settings.rounds {
        for way in &mut ways {
            // The first moments warm pools and caches.
            way.run("/", CONNECTIONS, Duration::from_millis(500)).await?;
            way.calls.push(way.run("/", CONNECTIONS, time).await?);
            way.bulk.push(way.run(&format!("/bulk/{BULK}"), STREAMS, time).await?);
            eprintln!("  {round} {}: {:.0}/s, {:.2} Gbit/s", way.words, way.rate(), way.speed());
        }
    }
    drop(nginx);
    tell(&ways, rows);
    let idle = usize::try_from(settings.scaled(IDLE as u64, 100))?;
    memory(&mut office, idle, rows).await?;
    office.close().await;
    application.end().await;
    Ok(())
}

fn tell([tunnel, direct, nginx]: &[Way; 3], rows: &mut Vec<Row>) {
    let peer = format!(
        "nginx: {:.0}/s, {:.2} / {:.2} ms, {:.0} us CPU each",
        nginx.rate(),
        nginx.p99().0,
        nginx.p99().1,
        nginx.cost().0
    );
    for (way, least) in [(tunnel, 0.5), (direct, 0.75)] {
        let (p50, p99) = way.p99();
        rows.push(Row::against(
            "w",
            format!("web application {}: requests, {CONNECTIONS} connections, p50 / p99, CPU of gateway and agent", way.words),
            format!("{:.0}/s, {p50:.2} / {p99:.2} ms, {:.0} us CPU each", way.rate(), way.cost().0),
            peer.clone(),
            way.rate() / nginx.rate(),
            Target::AtLeast(least),
        ));
    }
    let peer = format!("nginx: {:.2} Gbit/s, {:.2} CPU-s/GiB", nginx.speed(), nginx.cost().1);
    for way in [tunnel, direct] {
        let ours = format!("{:.2} Gbit/s, {:.2} CPU-s/GiB", way.speed(), way.cost().1);
        let figure =
            format!("web application {}: download in bulk, {STREAMS} connections", way.words);
        rows.push(Row {
            ratio: format!("{:.2}x", way.speed() / nginx.speed()),
            ..Row::told("w", figure, ours, peer.clone())
        });
    }
}

/// Memory of sessions whose application is open in a browser that does nothing.
async fn memory(office: &mut Office, count: usize, rows: &mut Vec<Row>) -> Outcome<()> {
    let doors = office.launch_many(count).await?;
    // The first of all pays for what is made once.
    let mut kept = vec![crate::webload::idle(&doors[0]).await?];
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = (resident(office.gateway())?, resident(office.agent())?);
    for door in &doors[1..] {
        kept.push(crate::webload::idle(door).await?);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let per =
        |now: u64, before: u64| now.saturating_sub(before) as f64 / 1024.0 / (count - 1) as f64;
    let ours = per(resident(office.gateway())?, before.0);
    let agent = per(resident(office.agent())?, before.1);
    rows.push(Row::told(
        "w",
        format!("web application through the tunnel: gateway memory of one that was opened and idles, at {count}"),
        format!("{ours:.1} KiB"),
        format!("above its session's {:.1} KiB; the agent's part: {agent:.1} KiB", office.session_kib()),
    ));
    drop(kept);
    Ok(())
}

/// nginx, as its manual says one proxies: HTTP/1.1 and kept connections toward the application.
struct Nginx {
    master: Child,
    door: Door,
}

impl Nginx {
    async fn start(folder: &Path, application: SocketAddr) -> Outcome<Self> {
        let at: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (dir, tls) = (folder.display(), folder.join("gateway/tls"));
        let text = format!(
            "daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/nginx.error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
               access_log {dir}/nginx.access.log;\n\
               client_body_temp_path {dir}/nginx-body; proxy_temp_path {dir}/nginx-proxy; fastcgi_temp_path {dir}/nginx-f; uwsgi_temp_path {dir}/nginx-u; scgi_temp_path {dir}/nginx-s;\n\
               keepalive_requests 100000000;\n\
               upstream application {{ server {application}; keepalive {CONNECTIONS}; keepalive_requests 100000000; }}\n\
               server {{\n\
                 listen {at} ssl;\n\
                 ssl_certificate {cert}; ssl_certificate_key {key};\n\
                 location / {{ proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n\
                   proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https; }}\n\
               }}\n\
             }}\n",
            cert = tls.join("server.pem").display(),
            key = tls.join("server.key").display(),
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, text)?;
        let master = program("nginx")
            .arg("-c")
            .arg(&path)
            .arg("-e")
            .arg(folder.join("nginx.error.log"))
            .kill_on_drop(true)
            .spawn()?;
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(at).await.is_ok() {
                return Ok(Self {
                    master,
                    door: Door { at, name: "localhost".into(), cookie: String::new() },
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(fail("nginx does not listen"))
    }

    /// Its master, whose children are counted with it.
    fn pids(&self) -> Vec<u32> {
        self.master.id().into_iter().collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it when it is asked; killed, it would leave them.
        if let Some(pid) = self
            .master
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            for _ in 0..100 {
                if matches!(self.master.try_wait(), Ok(Some(_))) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
