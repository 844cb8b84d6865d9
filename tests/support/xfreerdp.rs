//! A real RDP client, FreeRDP, over RDCleanPath. A bridge does the part of the browser's component:
//! it puts the client's X.224 request into an RDCleanPath request, and terminates the client's TLS.
//!
//! Its window is on an X server, which a small RFB client reads and types into.

use super::fake_rdp::{Identity, read_tpkt};
use super::pdeathsig::{PdeathsigChild, READY_TIMEOUT, pdeathsig_command, x_server};
use super::vnc::VncClient;
use ironrdp_rdcleanpath::{DetectionResult, RDCleanPathPdu};
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;

/// An X.224 Connection Request that asks for TLS, \[MS-RDPBCGR\] 2.2.1.1.
pub const CONNECTION_REQUEST: [u8; 19] =
    [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0];

pub struct Xfreerdp {
    /// The client's window and keyboard.
    pub screen: VncClient<UnixStream>,
    /// The display it is on.
    pub display: String,
    // Dropped in this order.
    _client: PdeathsigChild,
    _server: PdeathsigChild,
    _directory: TempDir,
}

impl Xfreerdp {
    /// Starts it over `gateway`, the browser's end of a stream, with additional `arguments` for
    /// `xfreerdp`.
    pub async fn start(
        gateway: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        destination: String,
        arguments: &[&str],
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("rfb.sock");
        let mut server = pdeathsig_command("Xtigervnc");
        server.args([
            "-displayfd",
            "1",
            "-rfbport",
            "-1",
            "-SecurityTypes",
            "None",
            "-geometry",
            "1024x768",
            "-depth",
            "24",
            "-nolisten",
            "tcp",
        ]);
        let (server, display) = x_server(server.arg("-rfbunixpath").arg(&socket)).await;
        let screen =
            timeout(READY_TIMEOUT, VncClient::connect(UnixStream::connect(&socket).await.unwrap()))
                .await
                .expect("it answers")
                .unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (client, _) = listener.accept().await?;
            bridge(client, gateway, destination).await
        });
        let mut client = pdeathsig_command("xfreerdp");
        client
            .args([
                &format!("/v:127.0.0.1:{port}"),
                "/u:nobody",
                "/p:placeholder",
                "/sec:tls",
                "/cert:ignore",
                "/size:800x600",
                "/bpp:32",
            ])
            .args(["/timeout:60000", "+clipboard", "-wallpaper"])
            .args(arguments)
            .env("DISPLAY", &display)
            .env("HOME", directory.path())
            .env("XDG_CONFIG_HOME", directory.path());
        if std::env::var_os("SHOW").is_some() {
            client.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        }
        let client = PdeathsigChild::start(&mut client);
        Self { screen, display, _client: client, _server: server, _directory: directory }
    }

    /// Waits until the window shows much of a colour (`0x00RRGGBB`), as far as a lossy codec shows
    /// it.
    pub async fn wait_for_colour(&mut self, colour: u32) {
        let near = |pixel: u32| {
            (0..3)
                .all(|byte| (pixel >> (8 * byte) & 0xff).abs_diff(colour >> (8 * byte) & 0xff) < 12)
        };
        let painted = self.screen.read_until(|screen| {
            screen.pixels.iter().filter(|pixel| near(**pixel)).count() > 20_000
        });
        timeout(Duration::from_secs(60), painted).await.expect("it is painted").unwrap();
    }
}

/// Sends an RDCleanPath request, as a browser does; returns the response.
pub async fn request_connection(
    gateway: &mut (impl AsyncRead + AsyncWrite + Unpin),
    connect: &[u8],
    destination: &str,
) -> io::Result<RDCleanPathPdu> {
    let request = RDCleanPathPdu::new_request(
        connect.to_vec(),
        destination.to_owned(),
        "placeholder".to_owned(),
        None,
    );
    gateway.write_all(&request.and_then(|pdu| pdu.to_der()).map_err(io::Error::other)?).await?;
    let mut answer = Vec::new();
    loop {
        answer.push(gateway.read_u8().await?);
        match RDCleanPathPdu::detect(&answer) {
            DetectionResult::Detected { total_length, .. } if total_length == answer.len() => {
                return RDCleanPathPdu::from_der(&answer).map_err(io::Error::other);
            }
            DetectionResult::Detected { .. } | DetectionResult::NotEnoughBytes => {}
            DetectionResult::Failed => return Err(io::Error::other("no RDCleanPath answer")),
        }
    }
}

async fn bridge(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut gateway: impl AsyncRead + AsyncWrite + Unpin,
    destination: String,
) -> io::Result<()> {
    let connect = read_tpkt(&mut client).await?;
    let answer = request_connection(&mut gateway, &connect, &destination).await?;
    let Some(confirm) = answer.x224_connection_pdu else {
        return Err(io::Error::other(format!("refused: {:?}", answer.error)));
    };
    client.write_all(confirm.as_bytes()).await?;

    let mut client = Identity::new("bridge.test").accept(client).await?;
    copy_bidirectional(&mut client, &mut gateway).await?;
    Ok(())
}
