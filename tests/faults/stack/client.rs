//! The stack as its users see it: command line, HTTP API, and WebSocket.

use super::*;

impl Stack {
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// An administrative command, in a process of its own, with this on standard input.
    pub fn cli(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What health says.
    pub async fn health(&self) -> (u16, Value) {
        self.get("/api/health", None).await
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        self.send(self.http.get(self.url(path)), token).await
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        self.send(self.http.post(self.url(path)).json(&body), token).await
    }

    pub async fn send(
        &self,
        request: reqwest::RequestBuilder,
        token: Option<&str>,
    ) -> (u16, Value) {
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn sign_in(&self, name: &str) -> SignedInUser {
        let (status, tokens) = self
            .post(
                "/api/auth/login",
                None,
                json!({"email": format!("{name}@example.test"), "password": PASSWORD}),
            )
            .await;
        assert_eq!(status, 200, "{tokens}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        SignedInUser { id: text(&tokens["user"]["id"]), token: text(&tokens["access_token"]) }
    }

    /// Launches the workspace; the session's id.
    pub async fn launch(&self, person: &SignedInUser) -> String {
        let (status, launched) = self
            .post(&format!("/api/workspaces/{WORKSPACE}/launch"), Some(&person.token), json!({}))
            .await;
        assert_eq!(status, 200, "{launched} {}", self.log());
        launched["session_id"].as_str().unwrap().to_owned()
    }

    pub async fn session(&self, person: &SignedInUser, id: &str) -> Value {
        let (status, session) = self.get(&format!("/api/sessions/{id}"), Some(&person.token)).await;
        assert_eq!(status, 200, "{session}");
        session
    }

    /// A one-use address of the stream.
    pub async fn ticket(&self, person: &SignedInUser, id: &str) -> Result<String, (u16, Value)> {
        let (status, ticket) =
            self.post(&format!("/api/sessions/{id}/ticket"), Some(&person.token), json!({})).await;
        if status != 200 {
            return Err((status, ticket));
        }
        Ok(format!(
            "{}?ticket={}",
            ticket["url"].as_str().unwrap(),
            ticket["ticket"].as_str().unwrap()
        ))
    }

    /// The stream as a WebSocket.
    pub async fn socket(
        &self,
        path: &str,
    ) -> Result<Socket, tokio_tungstenite::tungstenite::Error> {
        let mut request =
            format!("wss://localhost:{}{path}", self.port).into_client_request().unwrap();
        request.headers_mut().insert("origin", self.url("").parse().unwrap());
        let tls = Some(Connector::Rustls(self.tls.clone()));
        Ok(tokio_tungstenite::connect_async_tls_with_config(request, None, false, tls).await?.0)
    }

    /// The stream as a browser has it: an RFB client that has seen the desktop, and how it ends.
    pub async fn open(
        &self,
        person: &SignedInUser,
        id: &str,
    ) -> (VncClient<DuplexStream>, JoinHandle<Closed>) {
        let path = self.ticket(person, id).await.unwrap();
        let (stream, ended) = over_websocket(self.socket(&path).await.unwrap());
        match VncClient::connect(stream).await {
            Ok(client) => (client, ended),
            Err(error) => panic!("{error:?}; how it ended: {:?}\n{}", ended.await, self.log()),
        }
    }

    /// Waits until something holds, asking often; fails when it takes too long.
    pub async fn wait_until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        within(TIMEOUT, async || holds(self).await)
            .await
            .unwrap_or_else(|| panic!("not in time: {what}\n{}", self.log()));
    }

    /// The audit entries of a session, oldest first: action, outcome, reason.
    pub async fn audit_entries(
        &self,
        admin: &SignedInUser,
        session: &str,
    ) -> Vec<(String, String, String)> {
        let (status, page) = self
            .get(&format!("/api/audit?limit=500&session_id={session}"), Some(&admin.token))
            .await;
        assert_eq!(status, 200, "{page}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entries = page["entries"].as_array().unwrap().iter().rev();
        entries.map(|e| (text(&e["action"]), text(&e["outcome"]), text(&e["reason"]))).collect()
    }

    /// The whole log is proved by the command line.
    pub fn assert_audit_chain_valid(&self) {
        let proved = self.cli(&["audit", "verify"], "");
        assert!(proved.status.success(), "{proved:?}");
    }
}
