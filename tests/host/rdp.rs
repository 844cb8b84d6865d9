//! RDP desktops: xrdp joined to an Xorg of the session's own, in bubblewrap. These need the
//! packages; without them they fail.

use super::harness::{
    TIMEOUT, UIDS, display_server, processes_with_mark, reachable_sockets, run_in_desktop, spec,
    wait_until,
};
use crate::support::process_guard::{GuardedChild, spawn_guarded};
use crate::support::wait::{WAIT_TIMEOUT, within};
use portcullis::domain::UserId;
use portcullis::domain::workspace::WorkspaceKind;
use portcullis::host::desktop::launcher::session_folder;
use portcullis::host::desktop::{
    DesktopConnector, DesktopSpec, DisplayProtocol, Launcher, Limits, Phase,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

fn launcher(dir: &Path) -> Launcher {
    Launcher::new(dir, Limits::default(), UIDS).unwrap()
}

pub fn rdp_spec(user: UserId) -> (DesktopSpec, String) {
    let (spec, mark) = spec(user);
    (DesktopSpec { protocol: DisplayProtocol::Rdp, ..spec }, mark)
}

/// Takes any certificate, but has the server prove that it has the key.
#[derive(Debug)]
struct AnyCertificate(rustls::crypto::WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The first steps of an RDP client: agrees on TLS, shakes hands, and gives the SHA-256 of the
/// certificate it was shown.
pub async fn certificate<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> String {
    stream
        .write_all(&[3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 1, 0, 0, 0])
        .await
        .unwrap();
    let mut confirm = [0; 19];
    stream.read_exact(&mut confirm).await.unwrap();
    assert_eq!((confirm[5], confirm[11], confirm[15]), (0xd0, 2, 1), "{confirm:?}");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let any = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.dangerous().with_custom_certificate_verifier(any).with_no_client_auth();
    let name = ServerName::try_from("desktop").unwrap();
    let stream =
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    hex::encode(Sha256::digest(&shown))
}

#[tokio::test(flavor = "multi_thread")]
async fn proves_itself_by_a_certificate_of_its_own_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    assert_eq!(launcher.kinds(), [WorkspaceKind::Linux, WorkspaceKind::Rdp]);
    let (warm_up, _) = rdp_spec(UserId::new());
    let first = launcher.launch(warm_up.clone()).await.unwrap();
    let before = first.certificate().unwrap().to_owned();
    first.stop().await;

    let (spec, mark) = rdp_spec(warm_up.user_id);
    let begun = Instant::now();
    let desktop = launcher.launch(spec.clone()).await.unwrap();
    println!("launch to greeting {:?}", begun.elapsed());
    let reported = desktop.certificate().unwrap().to_owned();
    assert_eq!(certificate(desktop.connect().await.unwrap()).await, reported);
    assert_ne!(reported, before, "another desktop, another certificate");
    println!("launch to certificate {:?}", begun.elapsed());
    // As often as one likes: each connection is served for itself.
    assert_eq!(certificate(desktop.connect().await.unwrap()).await, reported);

    // Its folder is the agent's alone, its key the user's alone.
    let folder = session_folder(dir.path(), spec.session_id);
    for (name, mode) in [("", 0o700), ("etc/rdp.key", 0o600)] {
        assert_eq!(
            std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777,
            mode,
            "{name}"
        );
    }
    assert!(processes_with_mark(desktop.password().expose()).is_empty());
    assert!(!processes_with_mark(&mark).is_empty());
    desktop.stop().await;
    assert_eq!(processes_with_mark(&mark), Vec::<u32>::new(), "processes after stop");
    assert!(!folder.exists());
    // Nothing was left in the home but what a home begins with.
    let home = dir.path().join("homes").join(spec.user_id.to_string());
    let left: Vec<String> = std::fs::read_dir(home)
        .unwrap()
        .flatten()
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name == "thinclient_drives" || name == ".pcsc1" || name.contains("xorg")),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn is_alone_in_its_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let (other_spec, _) = rdp_spec(UserId::new());
    let other = launcher.launch(other_spec.clone()).await.unwrap();
    let (spec, _) = rdp_spec(UserId::new());
    let state = dir.path().display();
    let script = format!(
        r#"
echo uid=$(id -u) name=$(id -un) host=$(hostname)
echo links=$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\n' ,)
echo caps=$(grep CapEff /proc/self/status | cut -f2) nnp=$(grep NoNewPrivs /proc/self/status | cut -f2)
echo sockets=$(ls /run/ws /run/xrdp/sockdir | grep -c -E 'rdp.sock|xrdp_')
ls {state} >/dev/null 2>&1 && echo SEES-STATE
ls /etc/xrdp/key.pem /etc/xrdp/rsakeys.ini >/dev/null 2>&1 && echo SEES-HOST-KEYS
cat /etc/shadow 2>/dev/null && echo SEES-SHADOW
touch /etc/xrdp/x 2>/dev/null && echo WRITES-ETC
unshare -U true 2>/dev/null && echo NESTS-NAMESPACES
timeout 2 bash -c 'echo >/dev/tcp/127.0.0.1/3389' 2>/dev/null && echo LISTENS-ON-TCP
grep -c @ /proc/net/unix
ls /etc/xrdp | grep -c '^km-'
"#
    );
    let text = run_in_desktop(&launcher, dir.path(), spec, &script).await;
    println!("{text}");
    assert!(text.contains("links=lo,\n"), "only its own loopback");
    assert!(text.contains("name=mona-member host=ws-linux-desktop"));
    assert!(text.contains("caps=0000000000000000 nnp=1"));
    assert!(!text.contains("uid=0 "));
    for bad in ["SEES-", "WRITES-", "NESTS-", "LISTENS-", other_spec.user_id.to_string().as_str()] {
        assert!(!text.contains(bad), "{bad}");
    }
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_hosts_network_it_still_listens_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let (spec, mark) = rdp_spec(UserId::new());
    let desktop = launcher.launch(DesktopSpec { network: true, ..spec }).await.unwrap();
    assert_eq!(reachable_sockets(processes_with_mark(&mark)), Vec::<String>::new());
    desktop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_display_server_is_noticed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let (spec, mark) = rdp_spec(UserId::new());
    let desktop = launcher.launch(spec).await.unwrap();
    rustix::process::kill_process(display_server(&mark), rustix::process::Signal::KILL).unwrap();
    let mut phase = desktop.phase();
    tokio::time::timeout(TIMEOUT, phase.wait_for(|phase| *phase >= Phase::Ended))
        .await
        .unwrap()
        .unwrap();
    assert!(!desktop.is_running());
    desktop.stop().await;
    assert_eq!(processes_with_mark(&mark), Vec::<u32>::new());
}

/// A child that does not outlive its test.
struct RunningClient(GuardedChild);

impl Drop for RunningClient {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A screen on which a client shows what it sees; its picture is a file (XWD).
struct RdpViewer {
    display: String,
    picture: std::path::PathBuf,
    _screen: RunningClient,
}

impl RdpViewer {
    async fn start(dir: &Path) -> Self {
        let (number, mut display) = (dir.join("display"), String::new());
        let out = std::fs::File::create(&number).unwrap();
        let mut command = Command::new("Xvfb");
        command
            .args(["-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp", "-fbdir"])
            .arg(dir);
        let screen =
            RunningClient(spawn_guarded(command.stdout(out).stderr(Stdio::null())).unwrap());
        wait_until("a display", || {
            display = std::fs::read_to_string(&number).unwrap_or_default();
            display.ends_with('\n')
        })
        .await;
        Self {
            display: format!(":{}", display.trim()),
            picture: dir.join("Xvfb_screen0"),
            _screen: screen,
        }
    }

    /// Looks at a desktop as a stock client does, through a port of this machine's.
    async fn look(&self, dir: &Path, door: DesktopConnector) -> RunningClient {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let Ok(mut far) = door.connect().await else { continue };
                tokio::spawn(
                    async move { tokio::io::copy_bidirectional(&mut near, &mut far).await },
                );
            }
        });
        let mut command = Command::new("xfreerdp");
        command.args([
            &format!("/v:127.0.0.1:{port}"),
            "/u:anybody",
            "/p:anything",
            "/cert:ignore",
            "/sec:tls",
        ]);
        command.args(["/size:1024x768", "/bpp:32", "/network:lan", "+clipboard", "-decorations"]);
        command.env("DISPLAY", &self.display).env("HOME", dir).stdin(Stdio::null());
        let log = std::fs::File::create(dir.join("client.log")).unwrap();
        RunningClient(spawn_guarded(command.stdout(log.try_clone().unwrap()).stderr(log)).unwrap())
    }

    /// How many colours it shows. Behind a header whose first word is its length there are 256
    /// colours of 12 bytes, then four bytes a pixel.
    fn colours(&self) -> usize {
        let picture = std::fs::read(&self.picture).unwrap_or_default();
        let word = |at: usize| {
            picture
                .get(at * 4..at * 4 + 4)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u32::from_be_bytes) as usize
        };
        let from = word(0) + word(19) * 12;
        picture.get(from..).unwrap_or_default().chunks_exact(4).collect::<HashSet<_>>().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_a_picture_to_a_stock_client_and_again_after_it_left() {
    let dir = tempfile::tempdir().unwrap();
    let launcher = launcher(dir.path());
    let viewer = RdpViewer::start(dir.path()).await;
    let (warm_up, _) = rdp_spec(UserId::new());
    launcher.launch(warm_up.clone()).await.unwrap().stop().await;
    let (spec, mark) = rdp_spec(warm_up.user_id);
    let begun = Instant::now();
    let desktop = launcher.launch(spec).await.unwrap();
    let greeted = begun.elapsed();
    let server = display_server(&mark);
    for turn in ["first", "second"] {
        let begun = Instant::now();
        let client = viewer.look(dir.path(), desktop.connector()).await;
        // Panel, wallpaper and terminal are many colours.
        let seen = within(WAIT_TIMEOUT, async || viewer.colours() > 100).await;
        let log = std::fs::read_to_string(dir.path().join("client.log")).unwrap_or_default();
        assert!(seen.is_some(), "{turn}: {} colours\n{log}", viewer.colours());
        println!("launch to greeting {greeted:?}, {turn} client to picture {:?}", begun.elapsed());
        drop(client);
        wait_until("the client's picture is gone", || viewer.colours() < 20).await;
    }
    assert_eq!(display_server(&mark), server, "the same desktop");
    desktop.stop().await;
    assert_eq!(processes_with_mark(&mark), Vec::<u32>::new());
}
