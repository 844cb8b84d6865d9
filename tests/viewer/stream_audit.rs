//! With the real broker and store: the end of every stream is in the audit log, with its reason and
//! bytes.

use super::harness::{
    INIT, PipeConnections, PipeDial, authenticate_desktop, is_closed, lease_to, pipe_dial, read,
    server, server_init,
};
use crate::support::vnc::over_websocket;
use crate::support::wait::eventually;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::future::BoxFuture;
use portcullis::auth::Vault;
use portcullis::broker::core::settings::Limits;
use portcullis::broker::core::stream_registry::{
    StreamAuthorization, StreamGrant, StreamMeters, StreamSlotGuard,
};
use portcullis::broker::model::AuditQuery;
use portcullis::broker::model::{GatewayIdentity, TunnelReport};
use portcullis::broker::ports::host_fleet::{
    DesktopOrder, DesktopStarted, FleetError, HostFleet, HostPeer, SessionPeer,
};
use portcullis::broker::{Broker, Settings};
use portcullis::domain::audit::Entry;
use portcullis::domain::session::EndReason;
use portcullis::domain::session_times::SessionTimes;
use portcullis::domain::upstream::{StreamPolicy, Upstream};
use portcullis::domain::user::RequestSource;
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::domain::{Clock, HostId, SessionId, Timestamp};
use portcullis::store::Store;
use portcullis::viewer::socket_shutdown::{SocketShutdown, on_connect};
use portcullis::viewer::websocket::upgrade;
use portcullis::viewer::{Context, serve_with_shutdown};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now().into()
    }
}

/// No hosts: closing a stream does not use them.
struct NoFleet;

impl HostFleet for NoFleet {
    fn identity(&self) -> GatewayIdentity {
        GatewayIdentity {
            public_key: String::new(),
            endpoint: String::new(),
            address: "10.64.0.1".parse().unwrap(),
        }
    }
    fn add_host(&self, _: HostPeer) -> Result<(), FleetError> {
        Err(FleetError::NotConnected)
    }
    fn remove_host(&self, _: HostId) {}
    fn host(&self, _: HostId) -> Option<TunnelReport> {
        None
    }
    fn connected(&self) -> Vec<HostId> {
        vec![]
    }
    fn start(
        &self,
        _: Option<HostId>,
        _: DesktopOrder,
    ) -> BoxFuture<'_, Result<DesktopStarted, FleetError>> {
        Box::pin(async { Err(FleetError::NotConnected) })
    }
    fn drop_keys(&self, _: SessionId) {}
    fn stop(&self, _: Option<HostId>, _: SessionId) -> BoxFuture<'_, Result<(), FleetError>> {
        Box::pin(async { Ok(()) })
    }
    fn restore(&self, _: SessionPeer) -> Result<(), FleetError> {
        Ok(())
    }
    fn tunnel(&self, _: SessionId) -> Option<TunnelReport> {
        None
    }
    fn inventory(&self, _: HostId) -> BoxFuture<'_, Result<Vec<SessionId>, FleetError>> {
        Box::pin(async { Ok(vec![]) })
    }
    fn hosts_changed(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// A gateway with a broker and one stream.
struct Harness {
    broker: Broker,
    session_id: SessionId,
    authorization: watch::Sender<StreamAuthorization>,
    browser: DuplexStream,
    desktop: DuplexStream,
    task: AbortHandle,
    server: actix_web::dev::ServerHandle,
    _rest: (tempfile::TempDir, PipeConnections, watch::Sender<bool>),
}

struct Shared {
    dial: Arc<PipeDial>,
    broker: Broker,
    draining: watch::Receiver<bool>,
    grant: Mutex<Option<StreamGrant>>,
    tasks: mpsc::UnboundedSender<AbortHandle>,
}

async fn open(
    request: HttpRequest,
    body: web::Payload,
    shared: web::Data<Shared>,
) -> actix_web::Result<HttpResponse> {
    let (response, browser) = upgrade(&request, body)?;
    let shutdown = request.conn_data::<SocketShutdown>().cloned();
    let grant = shared.grant.lock().unwrap().take().expect("one stream");
    let ctx = Context {
        broker: shared.broker.clone(),
        dial: shared.dial.clone(),
        draining: shared.draining.clone(),
    };
    let task = actix_web::rt::spawn(serve_with_shutdown(
        ctx,
        RequestSource::local("req-7"),
        grant,
        browser,
        shutdown,
    ));
    let _ = shared.tasks.send(task.abort_handle());
    Ok(response)
}

impl Harness {
    async fn joined() -> Self {
        Self::joined_under(StreamPolicy::default()).await
    }

    async fn joined_under(policy: StreamPolicy) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::from_master_key([7; 32]);
        let store = Store::open_with(
            &format!("sqlite:{}", directory.path().join("db").display()),
            Arc::new(vault.clone()),
        )
        .unwrap();
        let broker =
            Broker::new(store, vault, Arc::new(NoFleet), Arc::new(SystemClock), settings());
        let organization = broker.organizations().ensure("Example").await.unwrap();
        let lease = lease_to(organization, WorkspaceKind::Linux, Upstream { policy, ..server() });
        let session_id = lease.session().id;
        let (authorization, watched) = watch::channel(StreamAuthorization::Valid);
        let (going, draining) = watch::channel(false);
        let grant = StreamGrant {
            lease,
            authorization: watched,
            meters: Arc::new(StreamMeters::default()),
            slot: StreamSlotGuard::unregistered(session_id),
        };
        let (dial, mut connections) = pipe_dial();
        let (tasks, mut spawned) = mpsc::unbounded_channel();
        let shared = Shared {
            dial: Arc::new(dial),
            broker: broker.clone(),
            draining,
            grant: Mutex::new(Some(grant)),
            tasks,
        };
        let data = web::Data::new(shared);
        let server = HttpServer::new(move || {
            App::new().app_data(data.clone()).route("/", web::get().to(open))
        })
        .on_connect(on_connect)
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
        let address: SocketAddr = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);

        let (socket, _) =
            tokio_tungstenite::connect_async(format!("ws://{address}/")).await.unwrap();
        let task = spawned.recv().await.unwrap();
        let mut desktop = connections.recv().await.unwrap();
        authenticate_desktop(&mut desktop).await;
        let (mut browser, _closed) = over_websocket(socket);
        assert_eq!(read(&mut browser, 12).await, b"RFB 003.008\n");
        browser.write_all(b"RFB 003.008\n\x01").await.unwrap();
        assert_eq!(read(&mut browser, 6).await, [1, 1, 0, 0, 0, 0]);
        browser.write_all(&[1]).await.unwrap();
        server_init(&mut desktop, 1).await;
        assert_eq!(read(&mut browser, INIT.len()).await, INIT);
        Self {
            broker,
            session_id,
            authorization,
            browser,
            desktop,
            task,
            server: handle,
            _rest: (directory, connections, going),
        }
    }

    /// The closing entry of the stream, once it is written; asserts that it is the only one.
    async fn closed(mut self) -> Entry {
        assert!(is_closed(&mut self.desktop).await);
        let caller = self.broker.organizations().system_principal().await.unwrap();
        let entry = eventually("the stream's end is audited", async || {
            let source = RequestSource::local("test");
            let page =
                self.broker.audit().query(&source, &caller, AuditQuery::default()).await.unwrap();
            let mut entries: Vec<Entry> =
                page.items.into_iter().filter(|e| e.action == "close_stream").collect();
            let entry = entries.pop()?;
            assert_eq!(entries, [], "it is closed once");
            Some(entry)
        })
        .await;
        assert_eq!(entry.session_id, Some(self.session_id.to_string()));
        assert_eq!(entry.request_id.as_deref(), Some("req-7"));
        self.server.stop(false).await;
        entry
    }
}

fn settings() -> Settings {
    let s = Duration::from_secs;
    Settings {
        mfa_required: true,
        issuer: "Portcullis".into(),
        access_ttl: s(600),
        refresh_ttl: s(3600),
        mfa_ttl: s(300),
        ticket_ttl: s(30),
        session_times: SessionTimes::of_installation(s(3600), s(3600), None),
        grace: s(600),
        launch_timeout: s(15),
        session_network: ("10.64.0.0".parse().unwrap(), 10),
        local_endpoints: false,
        web_applications: true,
        max_viewers: 4,
        limits: Limits::default(),
    }
}

#[actix_web::test]
async fn a_browser_that_leaves() {
    let mut harness = Harness::joined().await;
    harness.browser.write_all(b"\x01").await.unwrap();
    assert_eq!(read(&mut harness.desktop, 1).await, [1]);
    harness.desktop.write_all(b"pixels").await.unwrap();
    assert_eq!(read(&mut harness.browser, 6).await, b"pixels");
    harness.browser.shutdown().await.unwrap();
    let entry = harness.closed().await;
    assert_eq!(entry.reason.as_deref(), Some("browser_closed"));
    assert_eq!(
        (entry.details["bytes_up"].as_i64(), entry.details["bytes_down"].as_i64()),
        (Some(1), Some(6))
    );
}

#[actix_web::test]
async fn a_right_that_is_lost() {
    let mut harness = Harness::joined().await;
    harness
        .authorization
        .send(StreamAuthorization::SessionEnded(EndReason::WorkspaceStopped))
        .unwrap();
    let mut rest = Vec::new();
    let _ = harness.browser.read_to_end(&mut rest).await;
    assert_eq!(harness.closed().await.reason.as_deref(), Some("workspace_stopped"));
}

#[actix_web::test]
async fn a_task_that_is_dropped() {
    let harness = Harness::joined().await;
    harness.task.abort();
    assert_eq!(harness.closed().await.reason.as_deref(), Some("aborted"));
}

#[actix_web::test]
async fn refused_transfers_are_written_before_the_end() {
    let mut harness =
        Harness::joined_under(StreamPolicy { read_only: true, ..StreamPolicy::default() }).await;
    for _ in 0..3 {
        harness.browser.write_all(&[5, 1, 0, 1, 0, 1]).await.unwrap();
    }
    harness.browser.write_all(&[3, 1, 0, 0, 0, 0, 0, 2, 0, 1]).await.unwrap();
    assert_eq!(read(&mut harness.desktop, 10).await[0], 3, "nothing of the pointer arrives");
    harness.browser.shutdown().await.unwrap();
    let broker = harness.broker.clone();
    let closed = harness.closed().await;
    let caller = broker.organizations().system_principal().await.unwrap();
    let entries = broker
        .audit()
        .query(&RequestSource::local("test"), &caller, AuditQuery::default())
        .await
        .unwrap()
        .items;
    let refused: Vec<&Entry> =
        entries.iter().filter(|entry| entry.action == "transfer_refused").collect();
    let sum = |field: &str| {
        refused.iter().map(|entry| entry.details[field].as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!((sum("count"), sum("bytes")), (3, 18));
    for entry in refused {
        assert_eq!(
            (entry.details["channel"].as_str(), entry.details["direction"].as_str()),
            (Some("input"), Some("in"))
        );
        assert_eq!(
            (entry.session_id.as_ref(), entry.seq < closed.seq),
            (closed.session_id.as_ref(), true)
        );
    }
}
