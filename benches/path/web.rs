//! (w) A web application through the gateway, compared with nginx as a reverse proxy of the same
//! application. The whole product runs, with its store and its request log; the application and
//! the browsers are processes of this program. All use persistent HTTP/1.1 connections; TLS only
//! toward the browsers.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use crate::machine::{cpu_seconds, is_installed, median, resident_bytes};
use crate::product_testbed::ProductTestbed;
use crate::table::{Row, Threshold};
use crate::testbed::Process;
use crate::{Outcome, Settings, fail};

/// Connections of the browsers.
const CONNECTIONS: u32 = 64;
/// Connections of a bulk transfer, and the bytes of one request.
const BULK_CONNECTIONS: u32 = 4;
const BULK_BYTES: u64 = 64 << 20;
const IDLE_SESSIONS: usize = 990;

/// Results of one run.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct LoadResult {
    pub requests: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// An application as browsers reach it: address, host name, cookie.
#[derive(Clone, Debug)]
pub struct AppEndpoint {
    pub address: SocketAddr,
    pub name: String,
    pub cookie: String,
}

/// One of the proxies measured: its endpoint, and the processes whose CPU counts.
struct Proxy {
    label: &'static str,
    endpoint: AppEndpoint,
    pids: Vec<u32>,
    request_runs: Vec<(LoadResult, f64)>,
    bulk_runs: Vec<(LoadResult, f64)>,
}

impl Proxy {
    fn new(label: &'static str, endpoint: AppEndpoint, pids: Vec<u32>) -> Self {
        Self { label, endpoint, pids, request_runs: Vec::new(), bulk_runs: Vec::new() }
    }

    /// Runs the browsers; their results, and the CPU seconds that the proxy used.
    async fn run(
        &self,
        path: &str,
        connections: u32,
        time: Duration,
    ) -> Outcome<(LoadResult, f64)> {
        let used = || self.pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
        let before = used();
        let output = Command::new(std::env::current_exe()?)
            .args([
                "load",
                &self.endpoint.address.to_string(),
                &self.endpoint.name,
                &self.endpoint.cookie,
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
        let load: LoadResult = serde_json::from_slice(&output.stdout).map_err(|_| {
            fail(format!(
                "{}: the browsers failed: {}, {:?}",
                self.label,
                output.status,
                String::from_utf8_lossy(&output.stdout)
            ))
        })?;
        Ok((load, after - before))
    }

    fn rate(&self) -> f64 {
        median(
            self.request_runs.iter().map(|(load, _)| load.requests as f64 / load.seconds).collect(),
        )
    }

    fn speed(&self) -> f64 {
        median(
            self.bulk_runs
                .iter()
                .map(|(load, _)| load.bytes as f64 * 8.0 / load.seconds / 1e9)
                .collect(),
        )
    }

    /// CPU microseconds of a request, and CPU seconds of a GiB.
    fn cpu_cost(&self) -> (f64, f64) {
        let each = median(
            self.request_runs.iter().map(|(load, cpu)| cpu * 1e6 / load.requests as f64).collect(),
        );
        let gib = median(
            self.bulk_runs
                .iter()
                .map(|(load, cpu)| cpu * f64::from(1 << 30) / load.bytes as f64)
                .collect(),
        );
        (each, gib)
    }

    fn latency_percentiles(&self) -> (f64, f64) {
        let of = |pick: fn(&LoadResult) -> f64| {
            median(self.request_runs.iter().map(|(load, _)| pick(load)).collect())
        };
        (of(|load| load.p50_ms), of(|load| load.p99_ms))
    }
}

/// Measures all proxies, in turns.
pub async fn measure(settings: &Settings, rows: &mut Vec<Row>) -> Outcome<()> {
    if !is_installed("nginx") {
        rows.push(Row::unmeasured(
            "w",
            "web application: requests, bulk, CPU",
            "nginx is not installed (package nginx-light)",
        ));
        return Ok(());
    }
    let (application, at) = Process::start(&["application".into()]).await?;
    let at: SocketAddr = at.parse()?;
    let folder = tempfile::tempdir()?;
    let mut testbed = ProductTestbed::start(folder.path(), at).await?;
    let tunnel = testbed.launch("ws-bench-tunnel", &testbed.agent_target()).await?;
    let direct = testbed.launch("ws-bench-direct", &serde_json::json!({ "direct": "app" })).await?;
    let nginx = Nginx::start(folder.path(), at).await?;
    let mut proxies = [
        Proxy::new("through the tunnel", tunnel, vec![testbed.gateway(), testbed.agent()]),
        Proxy::new("to a direct target", direct, vec![testbed.gateway()]),
        Proxy::new("nginx", nginx.endpoint.clone(), nginx.pids()),
    ];
    let time = Duration::from_secs(settings.scaled(5, 2));
    for round in 0..settings.rounds {
        for proxy in &mut proxies {
            // A first run fills pools and caches.
            proxy.run("/", CONNECTIONS, Duration::from_millis(500)).await?;
            proxy.request_runs.push(proxy.run("/", CONNECTIONS, time).await?);
            proxy
                .bulk_runs
                .push(proxy.run(&format!("/bulk/{BULK_BYTES}"), BULK_CONNECTIONS, time).await?);
            eprintln!(
                "  {round} {}: {:.0}/s, {:.2} Gbit/s",
                proxy.label,
                proxy.rate(),
                proxy.speed()
            );
        }
    }
    drop(nginx);
    push_rows(&proxies, rows);
    let idle = usize::try_from(settings.scaled(IDLE_SESSIONS as u64, 100))?;
    memory(&mut testbed, idle, rows).await?;
    testbed.shutdown().await;
    application.shutdown().await;
    Ok(())
}

fn push_rows([tunnel, direct, nginx]: &[Proxy; 3], rows: &mut Vec<Row>) {
    let peer = format!(
        "nginx: {:.0}/s, {:.2} / {:.2} ms, {:.0} us CPU each",
        nginx.rate(),
        nginx.latency_percentiles().0,
        nginx.latency_percentiles().1,
        nginx.cpu_cost().0
    );
    for (proxy, least) in [(tunnel, 0.5), (direct, 0.75)] {
        let (p50, p99) = proxy.latency_percentiles();
        rows.push(Row::relative(
            "w",
            format!("web application {}: requests, {CONNECTIONS} connections, p50 / p99, CPU of gateway and agent", proxy.label),
            format!("{:.0}/s, {p50:.2} / {p99:.2} ms, {:.0} us CPU each", proxy.rate(), proxy.cpu_cost().0),
            peer.clone(),
            proxy.rate() / nginx.rate(),
            Threshold::AtLeast(least),
        ));
    }
    let peer = format!("nginx: {:.2} Gbit/s, {:.2} CPU-s/GiB", nginx.speed(), nginx.cpu_cost().1);
    for proxy in [tunnel, direct] {
        let ours = format!("{:.2} Gbit/s, {:.2} CPU-s/GiB", proxy.speed(), proxy.cpu_cost().1);
        let figure = format!(
            "web application {}: download in bulk, {BULK_CONNECTIONS} connections",
            proxy.label
        );
        rows.push(Row {
            ratio: format!("{:.2}x", proxy.speed() / nginx.speed()),
            ..Row::informational("w", figure, ours, peer.clone())
        });
    }
}

/// Memory of sessions whose application is open in an idle browser.
async fn memory(testbed: &mut ProductTestbed, count: usize, rows: &mut Vec<Row>) -> Outcome<()> {
    let endpoints = testbed.launch_many(count).await?;
    // The first one causes the allocations that are made once.
    let mut open = vec![crate::webload::open_idle(&endpoints[0]).await?];
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = (resident_bytes(testbed.gateway())?, resident_bytes(testbed.agent())?);
    for endpoint in &endpoints[1..] {
        open.push(crate::webload::open_idle(endpoint).await?);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let per =
        |now: u64, before: u64| now.saturating_sub(before) as f64 / 1024.0 / (count - 1) as f64;
    let ours = per(resident_bytes(testbed.gateway())?, before.0);
    let agent = per(resident_bytes(testbed.agent())?, before.1);
    rows.push(Row::informational(
        "w",
        format!("web application through the tunnel: gateway memory of one that was opened and idles, at {count}"),
        format!("{ours:.1} KiB"),
        format!("above its session's {:.1} KiB; the agent's part: {agent:.1} KiB", testbed.session_kib()),
    ));
    drop(open);
    Ok(())
}

/// nginx as a reverse proxy by its manual: HTTP/1.1 and persistent connections upstream.
struct Nginx {
    master: Child,
    endpoint: AppEndpoint,
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
        let master = Command::new("nginx")
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
                    endpoint: AppEndpoint {
                        address: at,
                        name: "localhost".into(),
                        cookie: String::new(),
                    },
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(fail("nginx does not listen"))
    }

    /// The master process, whose children are counted with it.
    fn pids(&self) -> Vec<u32> {
        self.master.id().into_iter().collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // On SIGTERM its workers end with it; SIGKILL would leave them.
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
