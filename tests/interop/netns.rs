//! A network namespace with a veth link to us and wireguard-go in it. Needs root.
//!
//! Names and addresses are random, so that many can run at once; the link's addresses are from
//! 198.18.0.0/15, which is reserved for benchmarks (RFC 2544). Dropping a [`Netns`] kills every
//! process in its namespace and removes the namespace.

use crate::support::wait::within_blocking;
use portcullis::tunnel::{PresharedKey, PrivateKey, PublicKey};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Longest wait for anything that should be immediate.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Serves bytes, and responds with the SHA-256 of what it was sent.
const HTTP_SERVER: &str = r#"
import hashlib, http.server, socket, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        left = int(self.path.rsplit('/', 1)[1])
        self.send_response(200); self.send_header('Content-Length', str(left)); self.end_headers()
        block = bytes(range(256)) * 256
        while left:
            left -= self.wfile.write(block[:left])
    def do_PUT(self):
        left, digest = int(self.headers['Content-Length']), hashlib.sha256()
        while left:
            data = self.rfile.read1(min(left, 1 << 18))
            if not data: return
            digest.update(data); left -= len(data)
        body = digest.hexdigest().encode()
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET

Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"#;

/// See the module.
pub struct Netns {
    pub name: String,
    /// Our end of the link.
    pub local: Ipv4Addr,
    /// The namespace's end.
    pub remote: Ipv4Addr,
    /// Another address of the same network, to roam to.
    pub alternate: Ipv4Addr,
    /// The WireGuard interface in the namespace.
    pub interface: String,
    pub dir: tempfile::TempDir,
    started: Vec<Child>,
    /// Removes everything when its standard input is closed: when this is dropped, or this process
    /// ends in whatever way.
    cleanup: Child,
}

/// $1: the namespace and our end of its link, $2: the control socket of its WireGuard.
const CLEANUP_SCRIPT: &str = r#"
trap '' INT TERM HUP
cat
# Everything that runs in the namespace is ours, whoever started it.
ip netns pids "$1" | xargs --no-run-if-empty kill -9
ip link del "$1"
ip netns del "$1"
rm -f "$2"
"#;

/// Runs a command, which must succeed; returns its output.
pub fn run(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{shown}: {e}: see .ci/setup"));
    assert!(
        status.success(),
        "{shown}: {}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8_lossy(&stdout).into_owned()
}

fn split_command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

impl Netns {
    /// A namespace with a link, and nothing in it yet.
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "network namespaces need root");
        let n = rand::random::<u32>();
        let net = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + ((n >> 8) % (1 << 14)) * 8;
        let at = |i: u32| Ipv4Addr::from(net + i);
        let (name, interface) = (format!("pt{n:08x}"), format!("pw{n:08x}"));
        // A process group of its own, so that it gets no signals from the terminal.
        let cleanup = Command::new("sh")
            .args([
                "-c",
                CLEANUP_SCRIPT,
                "sh",
                &name,
                &format!("/var/run/wireguard/{interface}.sock"),
            ])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let netns = Self {
            name,
            local: at(1),
            remote: at(2),
            alternate: at(3),
            interface,
            dir: tempfile::tempdir().unwrap(),
            started: Vec::new(),
            cleanup,
        };
        let Netns { name, local, remote, .. } = &netns;
        run(&mut split_command(&format!("ip netns add {name}")));
        run(&mut split_command(&format!(
            "ip link add {name} type veth peer name cable netns {name}"
        )));
        run(&mut split_command(&format!("ip addr add {local}/29 dev {name}")));
        run(&mut split_command(&format!("ip link set {name} up")));
        netns.ip("link set lo up");
        netns.ip(&format!("addr add {remote}/29 dev cable"));
        netns.ip("link set cable up");
        netns
    }

    /// `ip` in the namespace.
    pub fn ip(&self, line: &str) {
        run(&mut split_command(&format!("ip -n {} {line}", self.name)));
    }

    /// A command in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Writes a file into the temporary directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts a process that is killed with the namespace.
    pub fn spawn_owned(&mut self, command: &mut Command) {
        let shown = format!("{command:?}");
        self.started.push(
            command
                .stdin(Stdio::null())
                .spawn()
                .unwrap_or_else(|e| panic!("{shown}: {e}: see .ci/setup")),
        );
    }

    /// Starts wireguard-go with one peer: us. `endpoint`: our address, if it is to initiate; it
    /// listens on `port`.
    pub fn wireguard(
        &mut self,
        config: &WireGuardConfig,
        port: u16,
        endpoint: Option<std::net::SocketAddr>,
        keepalive: u16,
    ) {
        let interface = self.interface.clone();
        let mut daemon = self.command("wireguard-go");
        daemon
            .args(["-f", &interface])
            .env("LOG_LEVEL", "error")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.spawn_owned(&mut daemon);
        let socket = format!("/var/run/wireguard/{interface}.sock");
        wait_until("wireguard-go's control socket", || Path::new(&socket).exists());
        let key = self.write("key", &base64(&*config.key.expose()));
        let psk = self.write("psk", config.psk.expose_base64().as_str());
        let only = if config.address.is_ipv4() { 32 } else { 128 };
        let mut wg_set = self.command("wg");
        wg_set.args(["set", &interface, "listen-port", &port.to_string(), "private-key"]).arg(key);
        wg_set
            .args([
                "peer",
                &config.peer.to_string(),
                "allowed-ips",
                &format!("{}/{only}", config.peer_address),
                "preshared-key",
            ])
            .arg(psk);
        if let Some(endpoint) = endpoint {
            wg_set.args(["endpoint", &endpoint.to_string()]);
        }
        wg_set.args(["persistent-keepalive", &keepalive.to_string()]);
        run(&mut wg_set);
        self.ip(&format!("addr add {}/{only} dev {interface}", config.address));
        self.ip(&format!("link set {interface} mtu 1420 up"));
        self.ip(&format!("route add {}/{only} dev {interface}", config.peer_address));
    }

    /// `wg show transfer`: received and sent, as counted by wireguard-go.
    pub fn transfer(&self) -> (u64, u64) {
        let output = run(self.command("wg").args(["show", &self.interface, "transfer"]));
        let mut numbers = output.split_whitespace().skip(1).map(|n| n.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// `wg show latest-handshakes`, in seconds of Unix time.
    pub fn latest_handshake(&self) -> u64 {
        let output = run(self.command("wg").args(["show", &self.interface, "latest-handshakes"]));
        output.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Addresses, routes, neighbours and tunnel of the namespace, for the message of a failed test.
    pub fn state(&self) -> String {
        let query = |line: &str| {
            let output = split_command(&format!("ip netns exec {} {line}", self.name)).output();
            output
                .map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).into_owned())
        };
        ["ip addr", "ip route", "ip neigh", "ss -tuan", &format!("wg show {} dump", self.interface)]
            .map(|line| format!("{line}\n{}", query(line)))
            .join("\n")
    }

    /// An HTTP server in the namespace, at this address.
    pub fn start_http_server(&mut self, address: IpAddr, port: u16) {
        let script = self.write("serve.py", HTTP_SERVER);
        let mut python = self.command("python3");
        python.arg(script).args([address.to_string(), port.to_string()]);
        self.spawn_owned(&mut python);
        let probe = format!("import socket; socket.create_connection(('{address}', {port}), 1)");
        let mut listening = || {
            self.command("python3")
                .args(["-c", &probe])
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
        };
        wait_until("the HTTP server", &mut listening);
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.cleanup.stdin.take());
        let _ = self.cleanup.wait();
        for child in &mut self.started {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The configuration of wireguard-go.
pub struct WireGuardConfig {
    pub key: PrivateKey,
    pub psk: PresharedKey,
    pub peer: PublicKey,
    pub address: IpAddr,
    pub peer_address: IpAddr,
}

/// Waits for a condition, on a thread that may block.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    within_blocking(TIMEOUT, condition).unwrap_or_else(|| panic!("{what}: not within {TIMEOUT:?}"));
}

/// Standard base64.
pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
