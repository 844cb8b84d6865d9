//! What a desktop with network reaches, in network namespaces of the test: one in which the agent
//! runs, and one behind it that stands for the internet and for private networks.
//!
//! The agent is this program again, with one ignored test, as root or as the user nobody.

use super::agent_process::{AgentProcess, state_dir};
use super::harness::{UIDS, run_in_desktop, spec};
use portcullis::domain::UserId;
use portcullis::host::desktop::{DesktopSpec, Launcher, Limits, NetworkPolicy};
use std::path::Path;
use std::process::Command;

/// Makes both namespaces, starts a server on every address of each, which the agent's namespace
/// reaches, and runs its arguments there, after the first: the path of a pipe. It ends with them.
const NAMESPACES: &str = r#"
set -e
go=$1; shift
server='exec setpriv --pdeathsig KILL socat TCP-LISTEN:8080,fork,reuseaddr SYSTEM:"echo hello"'
mkfifo "$go"
ip link set lo up
for address in 93.184.216.34 93.184.216.35 10.1.0.5 10.2.0.5 100.64.0.5 169.254.169.254 172.16.0.5; do
    ip address add "$address/32" dev lo
done
sh -c "$server" </dev/null >/dev/null &
unshare --net sh -c 'read -r _ <"$0"; exec "$@"' "$go" "$@" &
agent=$!
tries=0
until [ "$(readlink /proc/$agent/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do
    tries=$((tries + 1)); [ $tries -lt 1000 ]; sleep 0.01
done
ip link add inner type veth peer name outer netns $agent
ip address add 192.168.77.2/24 dev inner
ip link set inner up
inside="nsenter --net=/proc/$agent/ns/net"
$inside sh -c 'ip link set lo up; ip address add 192.168.77.1/24 dev outer; ip link set outer up; ip route add default via 192.168.77.2'
$inside sh -c "$server" </dev/null >/dev/null &
for address in 127.0.0.1 192.168.77.1 192.168.77.2 93.184.216.34 93.184.216.35 10.1.0.5 10.2.0.5 100.64.0.5 169.254.169.254 172.16.0.5; do
    tries=0
    until [ "$($inside socat -T 5 - "TCP:$address:8080" </dev/null 2>/dev/null)" = hello ]; do
        tries=$((tries + 1)); [ $tries -lt 100 ]; sleep 0.1
    done
done
echo >"$go"
status=0; wait $agent || status=$?
kill $(jobs -p) 2>/dev/null || true
exit $status
"#;
/// Tries every address: public, the gateway's, named, private, shared, metadata, the router, the
/// host's two, and the link's router.
const TRY: &str = r#"
for address in 93.184.216.34 10.1.0.5 93.184.216.35 10.2.0.5 100.64.0.5 169.254.169.254 172.16.0.5 192.168.77.2 192.168.77.1 127.0.0.1 198.51.100.2; do
    got=$(timeout 20 bash -c "exec 3<>/dev/tcp/$address/8080 && head -n 1 <&3" 2>/dev/null)
    echo "$address ${got:-refused}"
done
ip route add 10.2.0.0/16 via 198.51.100.2 2>/dev/null && echo CHANGES-ROUTES
ip route del prohibit 10.0.0.0/8 2>/dev/null && echo CHANGES-ROUTES
grep -c nameserver /etc/resolv.conf
grep CapEff /proc/self/status
"#;

fn run(test: &str, as_nobody: bool) {
    let agent = AgentProcess::new(as_nobody);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "bash", "-c", NAMESPACES, "bash"]);
    command.arg(agent.dir.path().join("go"));
    agent.run(command, &format!("host::network::{test}"));
}

/// Processes that connect desktops of this network namespace.
fn connections() -> usize {
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            name.trim() == "slirp4netns"
                && std::fs::read_link(process.path().join("ns/net")).is_ok_and(|net| net == own)
        })
        .count()
}

async fn reaches_only_what_policy_names(dir: &Path) {
    let network = NetworkPolicy {
        allow: vec!["10.1.0.0/16".parse().unwrap()],
        gateway: Some("93.184.216.35:51820".to_owned()),
    };
    let launcher = Launcher::new(dir, Limits { network, ..Limits::default() }, UIDS).unwrap();
    let with_network = || DesktopSpec { network: true, ..spec(UserId::new()).0 };
    let text = run_in_desktop(&launcher, dir, with_network(), TRY).await;
    println!("{text}");
    let reached: Vec<_> = text.lines().filter_map(|line| line.strip_suffix(" hello")).collect();
    assert_eq!(reached, ["93.184.216.34", "10.1.0.5"]);
    assert_eq!(text.lines().filter(|line| line.ends_with(" refused")).count(), 9, "{text}");
    assert!(!text.contains("CHANGES-ROUTES"), "{text}");
    assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
    assert_eq!(connections(), 0, "after stop");
    let desktop = launcher.launch(with_network()).await.unwrap();
    assert!(connections() > 0);
    desktop.stop().await;
    assert_eq!(connections(), 0, "after stop");
}

#[test]
fn a_desktop_reaches_public_addresses_and_what_policy_names() {
    run("agent_in_namespaces", false);
}

#[test]
fn an_unprivileged_agents_desktop_reaches_the_same() {
    run("agent_in_namespaces", true);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of the tests above"]
async fn agent_in_namespaces() {
    let dir = state_dir();
    reaches_only_what_policy_names(&dir).await;
}
