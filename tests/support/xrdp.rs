//! A real xrdp with sesman and xorgxrdp, for one test. Needs root, since it logs users in.
//!
//! It runs in its own mount and PID namespaces: its user exists in its own `/etc/passwd`
//! only, as do its sockets and its `/tmp`, and when the value is dropped, or the test process ends,
//! everything in them ends, X servers included. Only its ports are shared.

use super::free_port;
use super::wait::{WAIT_TIMEOUT, within};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Its user and password.
pub const USER: &str = "rdpuser";
pub const PASSWORD: &str = "Rdp-Pass-1";
/// The same as `openssl passwd -6` writes it.
const HASH: &str = "$6$portcullis$/EIPMfSkOyb7XEuhlLsfD7.yulT9W4W.es9evMyq.VxuOhgLjrfzoFwOFNvzvMWbuGAcwxQFKATJJZz.6qKH20";
/// The colour behind its windows.
pub const COLOUR: u32 = 0x0020_4060;

/// UID and GID of the user; in no other passwd file.
const UID: u32 = 61_234;

/// `$D` is the directory; it is mounted at `/mnt`.
const NAMESPACE_SCRIPT: &str = r#"
set -e
mount --bind "$D" /mnt
mount -t tmpfs none /tmp
chmod 1777 /tmp
mkdir -m 1777 /tmp/.X11-unix
mount -t tmpfs none /home
mkdir /home/rdpuser
mount --bind /mnt/home /home/rdpuser
mount -t tmpfs none /run
mkdir -p /run/xrdp/sockdir
chmod 1777 /run/xrdp/sockdir
for file in passwd group shadow xrdp/sesman.ini; do mount --bind "/mnt/etc/$file" "/etc/$file"; done
xrdp-sesman -n -c /mnt/etc/xrdp/sesman.ini >/mnt/sesman.out 2>&1 &
exec xrdp -n -c /mnt/xrdp.ini >/mnt/xrdp.out 2>&1
"#;

/// Writes user and display of each started session to a file, and typed lines to another.
const SESSION_SCRIPT: &str = r#"#!/bin/sh
echo "$(id -un) $DISPLAY" >> "$HOME/started"
xsetroot -solid '#204060'
xterm -geometry 80x24+40+40 -e sh -c 'while read -r line; do echo "$line" >> "$HOME/typed"; done' &
exec icewm >/dev/null 2>&1
"#;

pub struct Xrdp {
    pub port: u16,
    /// The user's home.
    pub home: PathBuf,
    directory: TempDir,
    process: Child,
}

impl Xrdp {
    /// Starts it; it listens when this returns.
    pub async fn start() -> Self {
        assert!(rustix::process::geteuid().is_root(), "xrdp logs users in: it needs root");
        let directory = tempfile::tempdir().unwrap();
        let (port, sesman) = (free_port(), free_port());
        prepare(&directory, port, sesman);
        let script = directory.path().join("run.sh");
        fs::write(&script, NAMESPACE_SCRIPT).unwrap();
        let process = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
            ])
            .arg(&script)
            .env("D", directory.path())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("run.err")).unwrap())
            .spawn()
            .expect("setpriv and unshare are installed (util-linux)");
        let mut xrdp = Self { port, home: directory.path().join("home"), directory, process };
        for port in [port, sesman] {
            let listens = within(WAIT_TIMEOUT, async || {
                let ended = xrdp.process.try_wait().unwrap();
                assert!(ended.is_none(), "xrdp ended: {ended:?}\n{}", xrdp.output());
                tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
                    || tokio::net::TcpStream::connect(("::1", port)).await.is_ok()
            });
            if listens.await.is_none() {
                panic!("xrdp does not listen:\n{}", xrdp.output());
            }
        }
        xrdp
    }

    /// Its output and logs, for the message of a failed test.
    pub fn output(&self) -> String {
        let read =
            |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        ["run.err", "sesman.out", "xrdp.out", "sesman.log", "xrdp.log"].map(read).join("\n")
    }

    /// Waits until a file in the user's home satisfies `done`; its content.
    pub async fn home_file(&self, name: &str, done: impl Fn(&str) -> bool) -> String {
        let path = self.home.join(name);
        within(WAIT_TIMEOUT, async || fs::read_to_string(&path).ok().filter(|text| done(text)))
            .await
            .unwrap_or_else(|| panic!("{name}: {:?}\n{}", fs::read_to_string(&path), self.output()))
    }
}

impl Drop for Xrdp {
    fn drop(&mut self) {
        // Killing the first process of the PID namespace kills all others; unshare reaps it and
        // ends. Without one, only unshare runs.
        let outer = self.process.id();
        let pid = child_of(outer).or(i32::try_from(outer).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

fn child_of(parent: u32) -> Option<i32> {
    let parents = format!("PPid:\t{parent}\n");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        fs::read_to_string(entry.path().join("status")).ok()?.contains(&parents).then_some(pid)
    })
}

fn prepare(directory: &TempDir, port: u16, sesman: u16) {
    let path = |name: &str| directory.path().join(name);
    fs::create_dir_all(path("etc/xrdp")).unwrap();
    fs::create_dir(path("home")).unwrap();
    for (file, line) in [
        ("passwd", format!("{USER}:x:{UID}:{UID}::/home/{USER}:/bin/sh\n")),
        ("group", format!("{USER}:x:{UID}:\n")),
        ("shadow", format!("{USER}:{HASH}:19000:0:99999:7:::\n")),
    ] {
        let of_system = fs::read_to_string(format!("/etc/{file}")).unwrap();
        fs::write(path("etc").join(file), of_system + &line).unwrap();
    }
    fs::set_permissions(path("etc/shadow"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(path("home/startwm.sh"), SESSION_SCRIPT).unwrap();
    fs::set_permissions(path("home/startwm.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["home", "home/startwm.sh"] {
        std::os::unix::fs::chown(path(name), Some(UID), Some(UID)).unwrap();
    }

    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["xrdp.test".into()]).unwrap().self_signed(&key).unwrap();
    fs::write(path("cert.pem"), certificate.pem()).unwrap();
    fs::write(path("key.pem"), key.serialize_pem()).unwrap();

    let ini = fs::read_to_string("/etc/xrdp/xrdp.ini").expect("xrdp is installed");
    let ini = replaced(
        &ini,
        &[
            ("port=3389", format!("port=tcp://127.0.0.1:{port}")),
            ("fork=", "fork=true".into()),
            ("security_layer=", "security_layer=tls".into()),
            ("certificate=", "certificate=/mnt/cert.pem".into()),
            ("key_file=", "key_file=/mnt/key.pem".into()),
            ("autorun=", "autorun=Xorg".into()),
            ("LogFile=", "LogFile=/mnt/xrdp.log".into()),
            ("EnableSyslog=", "EnableSyslog=false".into()),
        ],
    );
    fs::write(path("xrdp.ini"), ini).unwrap();
    let ini = fs::read_to_string("/etc/xrdp/sesman.ini").expect("xrdp is installed");
    let ini = replaced(
        &ini,
        &[
            ("ListenPort=", format!("ListenPort={sesman}")),
            // Displays also have abstract sockets, which these namespaces do not separate.
            ("X11DisplayOffset=", format!("X11DisplayOffset={}", 20 + port % 4000)),
            ("LogFile=", "LogFile=/mnt/sesman.log".into()),
            ("EnableSyslog=", "EnableSyslog=false".into()),
        ],
    );
    fs::write(path("etc/xrdp/sesman.ini"), ini).unwrap();
}

/// Replaces lines by their beginning; each must exist.
fn replaced(ini: &str, changes: &[(&str, String)]) -> String {
    for (start, _) in changes {
        assert!(ini.lines().any(|line| line.starts_with(start)), "{start} is in the file");
    }
    let line = |line: &str| {
        changes
            .iter()
            .find(|(start, _)| line.starts_with(start))
            .map_or(line.to_owned(), |(_, new)| new.clone())
    };
    ini.lines().map(|l| line(l) + "\n").collect()
}
