//! Web applications at origins of their own: access, request smuggling, and browsers that read
//! nothing.

mod application;
mod entry;
mod smuggling;
mod unread;

use crate::support::app::{APPS_DOMAIN, TestApp};
use crate::support::client::Client;
use crate::support::db::{Backend, Db};
use application::Application;
use portcullis::broker::model::{NewWorkspace, WorkspaceChange};
use portcullis::domain::WorkspaceId;
use portcullis::domain::route::TargetSpec;
use portcullis::domain::user::{RequestSource, Role};
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::http::server_limits::ServerLimits;
use portcullis::http::settings::Settings;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A gateway with an application behind it.
struct AppsGateway {
    app: TestApp,
    application: Application,
}

/// The workspace of the application.
const WORKSPACE: &str = "ws-board";

impl AppsGateway {
    async fn new() -> Self {
        Self::with(|_, _| ()).await
    }

    async fn with(change: impl FnOnce(&mut Settings, &mut ServerLimits)) -> Self {
        let application = Application::start().await;
        let app =
            TestApp::with_dial(Db::new(Backend::Sqlite), Arc::new(application.dial()), change)
                .await;
        let system = app.broker.organizations().system_principal().await.unwrap();
        let roles = vec![Role::Member, Role::Admin];
        let target = Some(TargetSpec::Service { host_id: app.host, name: "board".to_owned() });
        let rest =
            WorkspaceChange { allowed_roles: Some(roles), target, ..WorkspaceChange::default() };
        let id = WorkspaceId::parse(WORKSPACE).unwrap();
        let new = NewWorkspace {
            id: Some(id),
            name: "Board".to_owned(),
            description: String::new(),
            kind: WorkspaceKind::Html5,
            properties: rest,
        };
        app.broker.workspaces().create(&RequestSource::local("test"), &system, new).await.unwrap();
        Self { app, application }
    }

    /// Launches a session of the application as the client's user.
    async fn launch(&self, client: &Client) -> String {
        let launched = client.post(&format!("/api/workspaces/{WORKSPACE}/launch"), json!({})).await;
        assert_eq!(launched.status, 200, "{}", launched.body);
        launched.json()["session_id"].as_str().unwrap().to_owned()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.app.port))
    }

    fn host(label: &str) -> String {
        format!("{label}.{APPS_DOMAIN}")
    }

    fn origin(&self, label: &str) -> String {
        format!("https://{}:{}", Self::host(label), self.app.port)
    }

    /// A client of an application's origin.
    fn at(&self, label: &str) -> Client {
        let http = reqwest::Client::builder()
            .tls_certs_only([self.app.root.clone()])
            .resolve(&Self::host(label), self.address())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(60))
            .build()
            .unwrap();
        Client { http, base: self.origin(label), headers: reqwest::header::HeaderMap::new() }
    }

    async fn ticket(&self, client: &Client, session: &str) -> String {
        let issued = client.post(&format!("/api/sessions/{session}/ticket"), json!({})).await;
        assert_eq!(issued.status, 200, "{}", issued.body);
        issued.json()["ticket"].as_str().unwrap().to_owned()
    }

    /// Enters as the viewer does, and returns the cookie.
    async fn enter(&self, client: &Client, session: &str) -> String {
        let ticket = self.ticket(client, session).await;
        let entered = self.post_ticket(session, &self.app.base, &ticket).await;
        assert_eq!(entered.status, 303, "{}", entered.body);
        entered.cookies_to_send()
    }

    async fn post_ticket(
        &self,
        session: &str,
        origin: &str,
        ticket: &str,
    ) -> crate::support::client::Answer {
        let form = self
            .at(session)
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded");
        form.send(
            reqwest::Method::POST,
            "/.portcullis/enter",
            Some(format!("ticket={ticket}").into_bytes()),
        )
        .await
    }

    /// A TLS connection with this server name.
    async fn connect(&self, name: &str, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let mut tls = (*self.app.tls).clone();
        tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        let tcp = TcpStream::connect(self.address()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap()
    }
}
