//! The network of a desktop that may have one: a namespace of its own, in which a program of the
//! session's user (slirp4netns) opens connections on the desktop's behalf.
//!
//! - The **routes** in the namespace decide what is reached, and a desktop has no right to change
//!   them: special and private ranges are prohibited, except those that the settings name; so are the
//!   host's own addresses and the gateway's, always. IPv4 only: there is no IPv6 route.
//! - The desktop's loopback is its own. The host's is not reached (`--disable-host-loopback`).
//! - Its first program sets the prohibitions, says so, and waits until the agent has connected the
//!   namespace, so that nothing of the user's runs before.
//! - A desktop without network has a namespace without any of this.

use super::cgroups::Group;
use super::homes::Account;
use super::limits::NetworkPolicy;
use super::process_spawner::ProcessSpawner;
use crate::domain::Network;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Programs it needs, and their packages.
const PROGRAMS: [(&str, &str); 2] = [("slirp4netns", "slirp4netns"), ("ip", "iproute2")];
/// Ranges that are no public addresses (RFC 6890): this network, private use, shared, link-local
/// with the metadata of clouds, protocol assignments, benchmarks, multicast, reserved and broadcast.
const PROHIBITED: [Network; 10] = [
    Network::v4([0, 0, 0, 0], 8),
    Network::v4([10, 0, 0, 0], 8),
    Network::v4([100, 64, 0, 0], 10),
    Network::v4([169, 254, 0, 0], 16),
    Network::v4([172, 16, 0, 0], 12),
    Network::v4([192, 0, 0, 0], 24),
    Network::v4([192, 168, 0, 0], 16),
    Network::v4([198, 18, 0, 0], 15),
    Network::v4([224, 0, 0, 0], 4),
    Network::v4([240, 0, 0, 0], 4),
];
/// Ranges of the namespace's own link: those for documentation (RFC 5737), which no host should
/// have. The first that contains none of the host's addresses is taken.
const LINKS: [[u8; 3]; 3] = [[198, 51, 100], [203, 0, 113], [192, 0, 2]];
/// Last byte of the link's router and of its resolver (slirp4netns(1)).
const ROUTER: u8 = 2;
const RESOLVER: u8 = 3;
/// Longest wait for the namespace, and for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most processes between the agent and the first one in the namespace.
const DEPTH_MAX: usize = 8;
/// Its arguments: the router; prohibited ranges; `--`; permitted ranges; `--`; the host's addresses;
/// `--`; the command. A range of the host's addresses comes last, so that nothing replaces it.
const SETUP_SCRIPT: &str = r#"set -e
router=$1; shift
ip link set lo up
later= own=
while [ "$1" != -- ]; do ip route replace prohibit "$1"; shift; done; shift
while [ "$1" != -- ]; do later="$later $1"; shift; done; shift
while [ "$1" != -- ]; do own="$own $1"; ip route replace prohibit "$1"; shift; done; shift
echo
read -r _
for range in $later; do ip route replace "$range" via "$router" dev tap0; done
for range in $own; do ip route replace prohibit "$range"; done
exec "$@" </dev/null >/dev/null"#;

/// The network of one desktop, before it starts.
#[derive(Debug)]
pub(super) struct DesktopNetwork {
    link: [u8; 3],
    allow: Vec<Network>,
    /// Addresses of the host and the gateway.
    own: Vec<Ipv4Addr>,
}

/// Names of packages that are not installed.
#[must_use]
pub(super) fn missing_packages() -> Vec<&'static str> {
    let is_missing = |program: &str| {
        !["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
    };
    PROGRAMS.into_iter().filter(|(program, _)| is_missing(program)).map(|(_, name)| name).collect()
}

impl DesktopNetwork {
    /// Reads the host's addresses, and resolves the gateway's name.
    ///
    /// # Errors
    /// When either is not known: what must not be reached would be.
    pub(super) async fn plan(policy: &NetworkPolicy) -> io::Result<Self> {
        let mut own = local_addresses(&fs::read_to_string("/proc/self/net/fib_trie")?);
        if let Some(gateway) = &policy.gateway {
            own.extend(resolve(gateway).await?);
        }
        let link = LINKS
            .into_iter()
            .find(|link| !own.iter().any(|own| own.octets()[..3] == link[..]))
            .ok_or_else(|| io::Error::other("this host has every range for documentation"))?;
        Ok(Self { link, allow: policy.allow.clone(), own })
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.link;
        Ipv4Addr::new(a, b, c, last)
    }

    /// Contents of `/etc/resolv.conf`.
    pub(super) fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.address(RESOLVER))
    }

    /// Arguments before the sandbox's, with which it runs in the namespace, as its root.
    pub(super) fn command_prefix(&self) -> Vec<OsString> {
        let mut prefix: Vec<OsString> =
            ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", SETUP_SCRIPT, "network"]
                .map(OsString::from)
                .into();
        let mut push = |argument: String| prefix.push(argument.into());
        push(self.address(ROUTER).to_string());
        PROHIBITED.iter().for_each(|range| push(range.to_string()));
        push("--".to_owned());
        self.allow.iter().for_each(|range| push(range.to_string()));
        push("--".to_owned());
        self.own.iter().for_each(|address| push(address.to_string()));
        push("--".to_owned());
        prefix
    }

    /// Connects the namespace of a desktop whose first program was started with
    /// [`Self::command_prefix`], and lets it go on. The process that this returns is the connection.
    ///
    /// # Errors
    /// When it cannot be connected; the desktop has run nothing then.
    pub(super) async fn connect(
        &self,
        desktop: &mut Child,
        spawner: &ProcessSpawner,
        group: &Group,
        account: Account,
    ) -> io::Result<Child> {
        let connecting = async {
            let (mut input, mut output) = desktop
                .stdin
                .take()
                .zip(desktop.stdout.take())
                .ok_or_else(|| io::Error::other("the desktop's pipes"))?;
            read_signal(&mut output).await?;
            let pid = desktop
                .id()
                .and_then(first_inside)
                .ok_or_else(|| io::Error::other("its namespace is not found"))?;
            let mut connection = spawner.spawn(self.connection(pid, group, account)).await?;
            let ready = connection.stdout.as_mut();
            read_signal(ready.ok_or_else(|| io::Error::other("its output"))?).await?;
            input.write_all(b"\n").await?;
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// slirp4netns, as the session's user, ended with its standard input.
    fn connection(&self, pid: u32, group: &Group, account: Account) -> Command {
        let mut arguments = group.join_prefix();
        let mut push = |argument: &str| arguments.push(argument.into());
        push("setpriv");
        let uid = account.uid.to_string();
        if account.switch_user {
            for argument in ["--reuid", &uid, "--regid", &uid, "--clear-groups"] {
                push(argument);
            }
            push("--bounding-set=-all");
            push("--inh-caps=-all");
        }
        for argument in ["--no-new-privs", "--pdeathsig", "KILL"] {
            push(argument);
        }
        // It writes text to its standard output, too.
        for argument in ["sh", "-c", r#"exec "$@" 3>&1 >/dev/null"#, "sh"] {
            push(argument);
        }
        push("slirp4netns");
        push("--configure");
        for argument in ["--mtu=65520", "--disable-host-loopback", "--enable-sandbox"] {
            push(argument);
        }
        for argument in ["--enable-seccomp", "--ready-fd=3", "--exit-fd=0"] {
            push(argument);
        }
        push(&format!("--cidr={}/24", self.address(0)));
        push(&pid.to_string());
        push("tap0");
        let mut arguments = arguments.into_iter();
        let mut command = Command::new(arguments.next().unwrap_or_default());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Waits for one byte.
async fn read_signal(output: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    output.read_u8().await.map(|_| ())
}

/// The first process in a network namespace that is not the agent's: this one, or one that it
/// started. The user runs nothing yet, so there is one child each.
fn first_inside(child: u32) -> Option<u32> {
    let own = fs::read_link("/proc/self/ns/net").ok()?;
    let mut pid = child;
    for _ in 0..DEPTH_MAX {
        if fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|net| net != own) {
            return Some(pid);
        }
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        pid = children.split_whitespace().next()?.parse().ok()?;
    }
    None
}

/// The addresses of this network namespace, but for its loopback, from `/proc/net/fib_trie`: each
/// follows its address as a line `/32 host LOCAL`.
fn local_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut address = None;
    for line in trie.lines().map(str::trim) {
        if let Some(leaf) = line.strip_prefix("|-- ") {
            address = leaf.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(address.filter(|address| !address.is_loopback()));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

async fn resolve(endpoint: &str) -> io::Result<Vec<Ipv4Addr>> {
    let found = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host(endpoint));
    let found = found.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let v4 = |address: SocketAddr| match address.ip().to_canonical() {
        IpAddr::V4(v4) if !v4.is_loopback() => Some(v4),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    Ok(found.filter_map(v4).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_addresses_are_found() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 127.0.0.0/8 2 0 2\n           |-- 127.0.0.1\n              /32 host LOCAL\n     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\nLocal:\n     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 10.9.8.7\n        /32 host LOCAL\n";
        assert_eq!(
            local_addresses(trie),
            [Ipv4Addr::new(10, 9, 8, 7), Ipv4Addr::new(192, 0, 2, 2)]
        );
    }

    #[tokio::test]
    async fn the_gateways_addresses_are_prohibited_and_must_be_known() {
        let policy = |gateway: &str| NetworkPolicy {
            allow: vec![Network::v4([10, 1, 0, 0], 16)],
            gateway: Some(gateway.to_owned()),
        };
        let network = DesktopNetwork::plan(&policy("203.0.113.9:51820")).await.unwrap();
        let prefix = network.command_prefix();
        let parts: Vec<_> = prefix.split(|argument| argument == "--").collect();
        assert!(parts[0].contains(&"169.254.0.0/16".into()));
        assert_eq!(parts[1], ["10.1.0.0/16"]);
        assert!(parts[2].contains(&"203.0.113.9".into()));
        assert_ne!(network.link, [203, 0, 113], "the link contains no such address");
        assert!(DesktopNetwork::plan(&policy("no port")).await.is_err());
    }
}
