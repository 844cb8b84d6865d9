//! A real RDP server with Network Level Authentication, for one test: FreeRDP's shadow server over
//! a headless X server. Needs no root.

use super::free_port;
use super::pdeathsig::{PdeathsigChild, READY_TIMEOUT, pdeathsig_command, x_server};
use super::wait::within;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tokio::process::Command;

/// Its user and password.
pub const USER: &str = "nlauser";
pub const PASSWORD: &str = "Nla-Pass-1";

/// The security that it requires of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Security {
    /// CredSSP.
    Nla,
    /// TLS alone.
    Tls,
    /// RDP's own encryption alone.
    Rdp,
}

/// The colour background its windows.
pub const COLOUR: u32 = 0x0020_4060;

pub struct Shadow {
    pub port: u16,
    /// The X server that it shows.
    pub display: String,
    directory: TempDir,
    // Dropped in this order.
    server: PdeathsigChild,
    _screen: PdeathsigChild,
}

impl Shadow {
    /// Starts it; it listens when this returns.
    pub async fn start(security: Security) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut screen = pdeathsig_command("Xvfb");
        // The server connects to the display twice: in between the display must not reset.
        let (screen, display) = x_server(screen.args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "800x600x24",
            "-nolisten",
            "tcp",
            "-noreset",
        ]))
        .await;

        let background = pdeathsig_command("xsetroot")
            .args(["-solid", &format!("#{COLOUR:06x}")])
            .env("DISPLAY", &display)
            .status()
            .await;
        assert!(background.expect("xsetroot is installed (x11-xserver-utils)").success());

        let sam = directory.path().join("sam");
        let hash = Command::new("winpr-hash")
            .args(["-u", USER, "-p", PASSWORD, "-f", "sam"])
            .output()
            .await
            .expect("winpr-utils is installed");
        assert!(hash.status.success());
        fs::write(&sam, hash.stdout).unwrap();

        let port = free_port();
        let said = fs::File::create(directory.path().join("said")).unwrap();
        let mut command = pdeathsig_command("freerdp-shadow-cli");
        command
            .args([&format!("/port:{port}"), "/bind-address:127.0.0.1"])
            // Without NLA it would authenticate against the machine's accounts.
            .arg(if security == Security::Nla { "+auth" } else { "-auth" })
            .arg(match security {
                Security::Nla => "/sec:nla",
                Security::Tls => "/sec:tls",
                Security::Rdp => "/sec:rdp",
            })
            .arg(format!("/sam-file:{}", sam.display()))
            // It keeps its key and certificate there.
            .env("HOME", directory.path())
            .env("XDG_CONFIG_HOME", directory.path())
            .env("DISPLAY", &display)
            .stderr(said.try_clone().unwrap())
            .stdout(said);
        let server = PdeathsigChild::start(&mut command);
        let mut shadow = Self { port, display, directory, server, _screen: screen };
        let listens = within(READY_TIMEOUT, async || {
            let ended = shadow.server.0.try_wait().unwrap();
            assert!(ended.is_none(), "freerdp-shadow ended: {ended:?}\n{}", shadow.output());
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        });
        if listens.await.is_none() {
            panic!("freerdp-shadow does not listen:\n{}", shadow.output());
        }
        shadow
    }

    /// Its output, for the message of a failed test.
    pub fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join("said")).unwrap_or_default()
    }

    /// A program on the server's display.
    pub fn run(&self, program: &str, arguments: &[&str]) -> PdeathsigChild {
        PdeathsigChild::start(
            pdeathsig_command(program).args(arguments).env("DISPLAY", &self.display),
        )
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}
