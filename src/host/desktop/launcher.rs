//! Starts desktops.
//!
//! One launch: the user's home and account, the session's folder (`run/<session>`, of the agent
//! alone), a password, the sandbox; then wait until the server greets: with `RFB`, or by agreeing
//! to TLS (RDP). Whatever fails on the way, what was made is cleared up.

use super::homes::{Account, Homes};
use super::limits::{Cgroups, Limits};
use super::process_spawner::ProcessSpawner;
use super::sandbox::{self, Folders};
use super::socket::Socket;
use super::spec::{DesktopSpec, DisplayProtocol};
use super::supervisor::{Desktop, OwnedResources, Phase};
use super::{desktop_files, password, rdp};
use crate::domain::SessionId;
use crate::domain::secret::SecretString;
use crate::domain::workspace::WorkspaceKind;
use crate::files;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

/// Longest time from order to greeting.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);
/// What a server greets with, before its version (RFC 6143 section 7.1.1).
const GREETING: &[u8; 4] = b"RFB ";
/// First and longest wait between two looks for the socket.
const POLL_BACKOFF: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(25));
/// Uids a root agent gives to users.
pub const UIDS: RangeInclusive<u32> = 200_000..=265_535;

/// Why a desktop did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A file or process of it could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// How it failed.
        source: io::Error,
    },
    /// Its server ended before it greeted.
    #[error("the desktop ended while it started")]
    Ended,
    /// Its server did not greet in time.
    #[error("the desktop did not answer in time")]
    TimedOut,
    /// No randomness for a password or a key.
    #[error("no randomness for a password")]
    NoRandomness,
    /// A program it is made of is not installed.
    #[error("this host cannot start RDP desktops: {0} not installed")]
    Missing(String),
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Io { what, source }
}

/// Starts desktops under one state folder. Dropping it ends them.
#[derive(Debug)]
pub struct Launcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    run: PathBuf,
    share: PathBuf,
    homes: Homes,
    limits: Limits,
    cgroups: Cgroups,
    spawner: ProcessSpawner,
    /// Packages that RDP desktops would need, as it was when the agent started.
    missing_rdp_packages: Vec<&'static str>,
}

/// What a launch prepared on disk.
struct Prepared {
    folder: PathBuf,
    command: Vec<OsString>,
    group: super::limits::Group,
    socket: Socket,
    password: SecretString,
    certificate: Option<String>,
}

impl Launcher {
    /// Prepares a state folder, and clears away what an agent that was killed left in it. One agent
    /// per state folder: the caller holds its lock.
    ///
    /// # Errors
    /// When the folder cannot be prepared.
    pub fn new(
        state_dir: &Path,
        limits: Limits,
        uids: RangeInclusive<u32>,
    ) -> Result<Self, LaunchError> {
        files::ensure_private_dir(state_dir).map_err(io_error("state folder"))?;
        // The sandbox sees paths from its own root.
        let state_dir = fs::canonicalize(state_dir).map_err(io_error("state folder"))?;
        let run = state_dir.join("run");
        kill_orphans(&run);
        if run.exists() {
            fs::remove_dir_all(&run).map_err(io_error("old session folders"))?;
        }
        files::ensure_private_dir(&run).map_err(io_error("session folders"))?;
        let share = state_dir.join("share");
        desktop_files::install(&share).map_err(io_error("desktop files"))?;
        let homes = Homes::open(&state_dir, uids).map_err(io_error("homes"))?;
        let name = format!("portcullis-{:08x}", fnv1a(&state_dir));
        let cgroups = Cgroups::detect(&name);
        let nursery = ProcessSpawner::new().map_err(io_error("launcher thread"))?;
        Ok(Self {
            inner: Arc::new(Inner {
                run,
                share,
                homes,
                limits,
                cgroups,
                spawner: nursery,
                missing_rdp_packages: rdp::missing_packages(),
            }),
        })
    }

    /// The kinds of desktops that can be started: what they need is installed.
    #[must_use]
    pub fn kinds(&self) -> Vec<WorkspaceKind> {
        let rdp = self.inner.missing_rdp_packages.is_empty().then_some(WorkspaceKind::Rdp);
        std::iter::once(WorkspaceKind::Linux).chain(rdp).collect()
    }

    /// Starts a desktop; it greets when this returns.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left then.
    pub async fn launch(&self, spec: DesktopSpec) -> Result<Desktop, LaunchError> {
        // In a task of its own, which a caller who gives up does not stop half-way: it ends, nobody
        // takes the desktop, and a desktop nobody has is ended.
        tokio::spawn(self.inner.clone().launch(spec)).await.map_err(|_| LaunchError::Ended)?
    }
}

impl Inner {
    async fn launch(self: Arc<Self>, spec: DesktopSpec) -> Result<Desktop, LaunchError> {
        let inner = self.clone();
        let (session_id, screen) = (spec.session_id, spec.protocol);
        let prepared = tokio::task::spawn_blocking(move || inner.prepare(&spec))
            .await
            .map_err(|_| LaunchError::Ended)??;
        let Prepared { folder, command, group, socket, password, certificate } = prepared;
        let mut words = command.into_iter();
        let mut process = Command::new(words.next().unwrap_or_default());
        process
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let child = match self.spawner.spawn(process).await {
            Ok(child) => child,
            Err(error) => {
                let _ = tokio::task::spawn_blocking(move || {
                    group.kill_and_remove();
                    fs::remove_dir_all(&folder)
                })
                .await;
                return Err(io_error("sandbox")(error));
            }
        };
        let desktop = Desktop::supervised(
            OwnedResources { session_id, child, group, folder },
            password,
            certificate,
            socket,
        );
        let greeted =
            tokio::time::timeout(START_TIMEOUT, wait_for_greeting(&desktop, screen)).await;
        match greeted {
            Ok(Ok(())) => {
                desktop.mark_ready();
                Ok(desktop)
            }
            Ok(Err(error)) => {
                desktop.stop().await;
                Err(error)
            }
            Err(_) => {
                desktop.stop().await;
                Err(LaunchError::TimedOut)
            }
        }
    }
}

/// Waits until the server greets, or ends.
async fn wait_for_greeting(desktop: &Desktop, screen: DisplayProtocol) -> Result<(), LaunchError> {
    let mut phase = desktop.phase();
    let (mut wait, longest) = POLL_BACKOFF;
    loop {
        let look = async {
            let mut stream = desktop.connect().await?;
            match screen {
                DisplayProtocol::Rfb => {
                    let mut banner = [0; 12];
                    stream.read_exact(&mut banner).await?;
                    io::Result::Ok(banner.starts_with(GREETING))
                }
                DisplayProtocol::Rdp => rdp::negotiates_tls(stream).await,
            }
        };
        let seen = tokio::select! {
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return Err(LaunchError::Ended),
            seen = look => seen,
        };
        if matches!(seen, Ok(true)) {
            return Ok(());
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 3 / 2).min(longest);
    }
}

impl Inner {
    fn prepare(&self, spec: &DesktopSpec) -> Result<Prepared, LaunchError> {
        if spec.protocol == DisplayProtocol::Rdp && !self.missing_rdp_packages.is_empty() {
            return Err(LaunchError::Missing(self.missing_rdp_packages.join(", ")));
        }
        let (home, account) = self.homes.get_or_create(spec.user_id).map_err(io_error("home"))?;
        let password = password::generate().map_err(|_| LaunchError::NoRandomness)?;
        let folder = self.run.join(spec.session_id.to_string());
        let made = self
            .session_folder(spec, &folder, account, &password)
            .map_err(io_error("session folder"));
        let (socket, certificate) = match made {
            Ok(made) => made,
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                return Err(error);
            }
        };
        let group = self.cgroups.create_group(spec.session_id, &self.limits);
        let folders = Folders {
            desktop_files: &self.share,
            etc: &folder.join("etc"),
            socket: &folder.join("ws"),
            home: &home,
        };
        let command = sandbox::command(spec, folders, account, &self.limits, &group);
        Ok(Prepared { folder, command, group, socket, password, certificate })
    }

    fn session_folder(
        &self,
        spec: &DesktopSpec,
        folder: &Path,
        account: Account,
        password: &SecretString,
    ) -> io::Result<(Socket, Option<String>)> {
        files::create_new_private_dir(folder)?;
        let (etc, ws) = (folder.join("etc"), folder.join("ws"));
        files::create_public_dir(&etc)?;
        for (name, text) in sandbox::etc_files(spec, account.uid) {
            files::write_public(&etc.join(name), text.as_bytes())?;
        }
        let (secret, secret_bytes, certificate) = match spec.protocol {
            DisplayProtocol::Rfb => {
                ("vncpasswd", Zeroizing::new(password::password_file(password).to_vec()), None)
            }
            DisplayProtocol::Rdp => {
                let identity =
                    rdp::generate_identity(SystemTime::now()).map_err(io::Error::other)?;
                files::write_public(&etc.join(rdp::CERTIFICATE), identity.certificate.as_bytes())?;
                (rdp::KEY, identity.key, Some(identity.fingerprint))
            }
        };
        let secret = etc.join(secret);
        files::create_private(&secret)?.write_all(&secret_bytes)?;
        files::create_new_private_dir(&ws)?;
        if account.switch_user {
            chown(&secret, Some(account.uid), Some(account.uid))?;
            chown(&ws, Some(account.uid), Some(account.uid))?;
        }
        Ok((Socket::new(&ws, spec.protocol.socket_name(), account.uid)?, certificate))
    }
}

/// Ends processes of an earlier agent: a start it was killed in the middle of, before its child
/// could ask to die with it. They are known by the session folders in their arguments.
fn kill_orphans(run: &Path) {
    let mut mark = run.as_os_str().as_encoded_bytes().to_vec();
    mark.push(b'/');
    let me = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let ours = line
            .split(|b| *b == 0)
            .next()
            .is_some_and(|program| program == b"bwrap" || program == b"sh");
        if ours
            && u32::try_from(pid) != Ok(me)
            && line.windows(mark.len()).any(|part| part == mark)
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            tracing::warn!(
                pid = pid.as_raw_nonzero().get(),
                "ending a desktop that an earlier agent left"
            );
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// FNV-1a: a short name for a path, stable between starts.
fn fnv1a(path: &Path) -> u32 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Names the folder of a session, for those who look at it from outside (tests, people).
#[must_use]
pub fn session_folder(state_dir: &Path, session: SessionId) -> PathBuf {
    state_dir.join("run").join(session.to_string())
}
