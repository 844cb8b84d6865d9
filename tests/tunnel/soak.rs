//! Many sessions, one after another: nothing is left behind.

use std::time::Duration;

use portcullis::tunnel::{Hub, PrivateKey, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::hubs::{InnerFamily, TunnelEnds, hub};

const S: Duration = Duration::from_secs(1);

#[test]
fn twenty_thousand_sessions_leave_nothing_behind() {
    soak(20_000);
}

/// `make soak`. Runs alone in its process, so that its memory can be compared.
#[test]
#[ignore = "takes an hour; `make soak` runs it"]
fn a_million_sessions_leave_nothing_behind() {
    let warm = soak(20_000);
    let end = soak(1_000_000);
    assert!(end < warm + (16 << 20), "resident before {warm}, after {end}");
}

/// Opens and closes sessions, sixteen at a time: fresh keys, a handshake, a connection, a byte each
/// way. Returns the resident memory at the end.
fn soak(sessions: usize) -> u64 {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (gateway, agent) = (hub("127.0.0.1:0").await, hub("127.0.0.1:0").await);
        let key = PrivateKey::generate().unwrap();
        let idle_tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let workers: Vec<_> = (0..16)
            .map(|worker| {
                let (gateway, agent, key) = (gateway.clone(), agent.clone(), key.clone());
                tokio::spawn(async move {
                    for n in (worker..sessions).step_by(16) {
                        let mut ends = TunnelEnds::new(InnerFamily::V4, (n % 250) as u8);
                        ends.gateway = key.clone();
                        timeout(60 * S, session(&gateway, &agent, &ends))
                            .await
                            .unwrap_or_else(|_| panic!("session {n} stalled"));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!((gateway.peers(), agent.peers()), (0, 0));
        let all_ended = async {
            while tokio::runtime::Handle::current().metrics().num_alive_tasks() > idle_tasks {
                tokio::task::yield_now().await;
            }
        };
        timeout(20 * S, all_ended).await.expect("tasks are left");
        assert_eq!((gateway.counters().overflow, agent.counters().overflow), (0, 0));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        resident.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    })
}

async fn session(gateway: &Hub, agent: &Hub, ends: &TunnelEnds) {
    let far = agent.add_peer(ends.agent_config(None)).unwrap();
    let mut listener = far.listen(5900, 1).unwrap();
    let near = gateway.add_peer(ends.gateway_config(Some(agent.local_addr()))).unwrap();
    let (client, server) = tokio::join!(near.connect(5900), listener.accept());
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.write_all(b"?").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'?');
    server.write_all(b"!").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'!');
    end(gateway, &near).await;
    end(agent, &far).await;
}

async fn end(hub: &Hub, tunnel: &Tunnel) {
    hub.remove(tunnel.id());
    tunnel.closed().await;
}
