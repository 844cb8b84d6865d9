//! One gateway serves from a database: a second one is refused, the lease of one that crashed is
//! taken over, and one that lost its lease stops.

use super::processes::signal;
use super::stack::{Stack, TIMEOUT};
use crate::support::db::{Backend, empty_database};
use crate::support::free_port;
use crate::support::process_guard::{GuardedChild, spawn_guarded};
use crate::support::wait::{eventually, within};
use diesel::connection::SimpleConnection as _;
use portcullis::app::lease::EXPIRY;
use portcullis::store::connection::{AccessMode, DatabaseLocation};
use rustix::process::Signal;
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

/// A gateway with a data folder of its own on the database of a [`Stack`].
struct OtherGateway {
    child: GuardedChild,
    dir: PathBuf,
    port: u16,
}

impl OtherGateway {
    fn start(stack: &Stack) -> Self {
        let dir = stack.dir.join(format!("other-{}", free_port()));
        let keys = dir.join("keys");
        portcullis::files::create_private_dir(&keys).unwrap();
        // The keys belong to the database, so every gateway on it has the same.
        for name in ["master.key", "hub.key"] {
            std::fs::copy(stack.data().join("keys").join(name), keys.join(name)).unwrap();
        }
        let port = free_port();
        let mut command = stack.command(&["serve"]);
        command
            .env("PORTCULLIS_SERVER__DATA_DIR", &dir)
            .env("PORTCULLIS_SERVER__LISTEN", format!("127.0.0.1:{port}"))
            .env("PORTCULLIS_TUNNEL__LISTEN", format!("127.0.0.1:{}", free_port()))
            .stdin(Stdio::null())
            .stdout(File::create(dir.join("out")).unwrap())
            .stderr(File::create(dir.join("err")).unwrap());
        Self { child: spawn_guarded(&mut command).unwrap(), dir, port }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("err")).unwrap()
    }

    /// Waits until it says that it serves.
    async fn serving(&mut self) {
        let serves = within(TIMEOUT, async || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended, {ended:?}: {}", self.log());
            std::fs::read_to_string(self.dir.join("out")).unwrap().contains("serves")
        });
        assert!(serves.await.is_some(), "it does not serve: {}", self.log());
    }

    async fn ended(&mut self) -> ExitStatus {
        ended(&mut self.child).await
    }
}

impl Drop for OtherGateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn ended(child: &mut GuardedChild) -> ExitStatus {
    eventually("the process ends", async || child.try_wait().unwrap()).await
}

/// Runs a check on a gateway whose database is not in its data folder.
async fn on(backend: Backend, check: impl AsyncFnOnce(Stack, &str)) {
    let database = empty_database(backend);
    let stack = Stack::gateway_only(&[("DATABASE__URL", &database.url)]).await;
    check(stack, &database.url).await;
}

async fn a_second_gateway_is_refused_until_the_first_has_stopped(mut stack: Stack, url: &str) {
    let mut second = OtherGateway::start(&stack);
    assert_eq!(second.ended().await.code(), Some(1));
    let log = second.log();
    let holder = format!(
        "another gateway serves from this database: https://localhost:{} (machine ",
        stack.port
    );
    let process = format!("process {}, ", stack.gateway_pid());
    for part in [holder.as_str(), &process, "), since 20", ", last heartbeat 20"] {
        assert!(log.contains(part), "{part} is not in: {log}");
    }
    assert!(stack.health().await.1["status"].is_string(), "the first one goes on serving");

    stack.stop().await;
    let began = Instant::now();
    let mut third = OtherGateway::start(&stack);
    third.serving().await;
    let took = began.elapsed();
    assert!(took < EXPIRY, "it took {took:?} to acquire a lease that was released");

    // Somebody else has the lease now, by whatever mistake: the holder stops by itself.
    DatabaseLocation::parse(url)
        .unwrap()
        .open(AccessMode::Write)
        .unwrap()
        .batch_execute("UPDATE gateway_lease SET holder = 'another'")
        .unwrap();
    assert_eq!(third.ended().await.code(), Some(1));
    let log = third.log();
    assert!(
        log.contains("lost its lease") && log.contains("another gateway took it over"),
        "{log}"
    );
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", third.port)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_is_refused_on_sqlite() {
    on(Backend::Sqlite, a_second_gateway_is_refused_until_the_first_has_stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_is_refused_on_postgres() {
    on(Backend::Postgres, a_second_gateway_is_refused_until_the_first_has_stopped).await;
}

/// A gateway that is frozen looks like one that crashed, and may come back, which is worse.
async fn a_silent_gateways_lease_is_taken_over(mut stack: Stack, _: &str) {
    signal(stack.gateway_pid(), Signal::STOP);
    let began = Instant::now();
    let mut second = OtherGateway::start(&stack);
    second.serving().await;
    let took = began.elapsed();
    assert!(took >= EXPIRY, "taken over after {took:?}: before it expired");
    println!("taken over after {took:?}");

    signal(stack.gateway_pid(), Signal::CONT);
    let mut first = stack.take_gateway();
    assert_eq!(ended(&mut first).await.code(), Some(1));
    let log = stack.log();
    assert!(
        log.contains("lost its lease") && log.contains("another gateway took it over"),
        "{log}"
    );
    tokio::net::TcpStream::connect(("127.0.0.1", second.port)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_gateways_lease_is_taken_over_on_sqlite() {
    on(Backend::Sqlite, a_silent_gateways_lease_is_taken_over).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_gateways_lease_is_taken_over_on_postgres() {
    on(Backend::Postgres, a_silent_gateways_lease_is_taken_over).await;
}
