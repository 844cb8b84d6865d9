//! Starts desktops.
//!
//! A launch prepares the user's home and account, the session's folder (`run/<session>`, accessible
//! to the agent only), a password and the sandbox, and then waits until the server greets: with its
//! RFB version, or by negotiating TLS (RDP). On failure everything is removed.

use super::cgroups::{Cgroups, Group};
use super::home_usage::HomeLimit;
use super::homes::{Account, Homes};
use super::launch_error::{LaunchError, io_error};
use super::limits::Limits;
use super::network::{self, DesktopNetwork};
use super::process_spawner::ProcessSpawner;
use super::sandbox::{self, Folders};
use super::socket::Socket;
use super::spec::{DesktopSpec, DisplayProtocol};
use super::supervisor::{Desktop, OwnedResources, Phase};
use super::{desktop_files, password, rdp, seccomp};
use crate::domain::SessionId;
use crate::domain::host::DesktopLimit;
use crate::domain::secret::SecretString;
use crate::domain::workspace::WorkspaceKind;
use crate::files;
use std::collections::BTreeSet;
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
/// Beginning of an RFB server's ProtocolVersion message (RFC 6143 section 7.1.1).
const GREETING: &[u8; 4] = b"RFB ";
/// First and longest wait between two attempts to connect to the socket.
const POLL_BACKOFF: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(25));

/// Starts desktops under one state folder. Dropping it ends them.
#[derive(Debug)]
pub struct Launcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    held: BTreeSet<DesktopLimit>,
    run: PathBuf,
    share: PathBuf,
    homes: Homes,
    limits: Limits,
    cgroups: Cgroups,
    spawner: ProcessSpawner,
    /// Checked when the agent starts.
    missing_rdp_packages: Vec<&'static str>,
}

struct Prepared {
    folder: PathBuf,
    command: Vec<OsString>,
    group: Group,
    home_limit: Option<HomeLimit>,
    account: Account,
    password: SecretString,
    certificate: Option<String>,
}

impl Launcher {
    /// Prepares a state folder, and removes what a killed agent left in it. The caller holds the
    /// folder's lock.
    ///
    /// # Errors
    /// When the folder cannot be prepared.
    pub fn new(
        state_dir: &Path,
        limits: Limits,
        uids: RangeInclusive<u32>,
    ) -> Result<Self, LaunchError> {
        files::ensure_private_dir(state_dir).map_err(io_error("state folder"))?;
        // bubblewrap resolves paths from another root.
        let state_dir = fs::canonicalize(state_dir).map_err(io_error("state folder"))?;
        let run = state_dir.join("run");
        kill_orphans(&run);
        if run.exists() {
            fs::remove_dir_all(&run).map_err(io_error("old session folders"))?;
        }
        files::ensure_private_dir(&run).map_err(io_error("session folders"))?;
        let share = state_dir.join("share");
        desktop_files::install(&share).map_err(io_error("desktop files"))?;
        let filters = seccomp::filters().map_err(io_error("filters of system calls"))?;
        for (name, filter) in seccomp::FILES.into_iter().zip(filters) {
            files::write_public(&share.join(name), &filter).map_err(io_error("desktop files"))?;
        }
        let homes = Homes::open(&state_dir, uids).map_err(io_error("homes"))?;
        let name = format!("portcullis-{:08x}", fnv1a(&state_dir));
        let cgroups = Cgroups::detect(&name, &limits);
        let spawner = ProcessSpawner::new().map_err(io_error("launcher thread"))?;
        let mut held = cgroups.held().clone();
        // A desktop does not start without them.
        held.extend([DesktopLimit::Network, DesktopLimit::Seccomp]);
        held.extend(limits.home.map(|_| DesktopLimit::Home));
        for limit in DesktopLimit::ALL.into_iter().filter(|limit| !held.contains(limit)) {
            tracing::warn!(limit = limit.as_str(), "this host does not hold a limit of desktops");
        }
        Ok(Self {
            inner: Arc::new(Inner {
                held,
                run,
                share,
                homes,
                limits,
                cgroups,
                spawner,
                missing_rdp_packages: rdp::missing_packages(),
            }),
        })
    }

    /// The limits of desktops that this host holds.
    #[must_use]
    pub fn held_limits(&self) -> &BTreeSet<DesktopLimit> {
        &self.inner.held
    }

    /// The kinds of desktops whose programs are installed.
    #[must_use]
    pub fn kinds(&self) -> Vec<WorkspaceKind> {
        let installed = |kind: &WorkspaceKind| match DisplayProtocol::started_for(*kind) {
            Some(DisplayProtocol::Rfb) => true,
            Some(DisplayProtocol::Rdp) => self.inner.missing_rdp_packages.is_empty(),
            None => false,
        };
        WorkspaceKind::ALL.into_iter().filter(installed).collect()
    }

    /// Starts a desktop; it greets when this returns.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing remains then.
    pub async fn launch(&self, spec: DesktopSpec) -> Result<Desktop, LaunchError> {
        // In its own task, so that a caller that gives up does not stop it half-way: the task ends,
        // and drops, and thereby ends, the desktop that nobody takes.
        tokio::spawn(self.inner.clone().launch(spec)).await.map_err(|_| LaunchError::Ended)?
    }
}

impl Inner {
    async fn launch(self: Arc<Self>, spec: DesktopSpec) -> Result<Desktop, LaunchError> {
        let inner = self.clone();
        let (session_id, screen) = (spec.session_id, spec.protocol);
        let network = match spec.network {
            true => Some(Arc::new(self.plan_network().await?)),
            false => None,
        };
        let planned = network.clone();
        let prepared =
            tokio::task::spawn_blocking(move || inner.prepare(&spec, planned.as_deref()))
                .await
                .map_err(|_| LaunchError::Ended)??;
        let Prepared { folder, command, group, home_limit, account, password, certificate } =
            prepared;
        let mut arguments = command.into_iter();
        let mut process = Command::new(arguments.next().unwrap_or_default());
        process
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(group.environment().iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(if network.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(if network.is_some() { Stdio::piped() } else { Stdio::null() })
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let started = match self.spawner.spawn(process).await {
            Ok(mut child) => {
                let connected = match &network {
                    Some(network) => {
                        network.connect(&mut child, &self.spawner, &group, account).await.map(Some)
                    }
                    None => Ok(None),
                };
                match connected {
                    Ok(connection) => Ok((child, connection)),
                    Err(error) => {
                        let _ = child.kill().await;
                        Err(io_error("network")(error))
                    }
                }
            }
            Err(error) => Err(io_error("sandbox")(error)),
        };
        let (child, connection) = match started {
            Ok(started) => started,
            Err(error) => {
                let _ = tokio::task::spawn_blocking(move || {
                    group.kill_and_remove();
                    fs::remove_dir_all(&folder)
                })
                .await;
                return Err(error);
            }
        };
        let socket = Socket::new(child.id(), screen.socket_name(), account.uid);
        let desktop = Desktop::supervised(
            OwnedResources { session_id, child, group, folder, home_limit, connection },
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
        let attempt = async {
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
        let greeted = tokio::select! {
            _ = phase.wait_for(|phase| *phase != Phase::Running) => return Err(LaunchError::Ended),
            greeted = attempt => greeted,
        };
        if matches!(greeted, Ok(true)) {
            return Ok(());
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 3 / 2).min(longest);
    }
}

impl Inner {
    async fn plan_network(&self) -> Result<DesktopNetwork, LaunchError> {
        let missing = network::missing_packages();
        if !missing.is_empty() {
            return Err(LaunchError::NoNetwork(missing.join(", ")));
        }
        DesktopNetwork::plan(&self.limits.network).await.map_err(io_error("network"))
    }

    fn prepare(
        &self,
        spec: &DesktopSpec,
        network: Option<&DesktopNetwork>,
    ) -> Result<Prepared, LaunchError> {
        if spec.protocol == DisplayProtocol::Rdp && !self.missing_rdp_packages.is_empty() {
            return Err(LaunchError::Missing(self.missing_rdp_packages.join(", ")));
        }
        let missing: Vec<_> = self.limits.required.difference(&self.held).collect();
        if !missing.is_empty() {
            let names: Vec<_> = missing.into_iter().map(|limit| limit.as_str()).collect();
            return Err(LaunchError::LimitsNotHeld(names.join(", ")));
        }
        let (home, account) = self.homes.get_or_create(spec.user_id).map_err(io_error("home"))?;
        let home_limit = self.limits.home.map(|bytes| HomeLimit { folder: home.clone(), bytes });
        if home_limit.as_ref().is_some_and(|limit| limit.excess().is_some()) {
            return Err(LaunchError::HomeFull);
        }
        let password = password::generate().map_err(|_| LaunchError::NoRandomness)?;
        let folder = self.run.join(spec.session_id.to_string());
        let made = self
            .session_folder(spec, &folder, account, &password)
            .and_then(|made| {
                if let Some(network) = network {
                    let text = network.resolv_conf();
                    files::write_public(&folder.join("etc/resolv.conf"), text.as_bytes())?;
                }
                Ok(made)
            })
            .map_err(io_error("session folder"));
        let certificate = match made {
            Ok(made) => made,
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                return Err(error);
            }
        };
        let group = match self.cgroups.create_group(spec.session_id, &self.limits) {
            Ok(group) => group,
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                return Err(io_error("cgroup")(error));
            }
        };
        let folders = Folders { desktop_files: &self.share, etc: &folder.join("etc"), home: &home };
        let command = sandbox::command(spec, folders, account, &self.limits, &group, network);
        Ok(Prepared { folder, command, group, home_limit, account, password, certificate })
    }

    fn session_folder(
        &self,
        spec: &DesktopSpec,
        folder: &Path,
        account: Account,
        password: &SecretString,
    ) -> io::Result<Option<String>> {
        files::create_new_private_dir(folder)?;
        let etc = folder.join("etc");
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
        if account.switch_user {
            chown(&secret, Some(account.uid), Some(account.uid))?;
        }
        Ok(certificate)
    }
}

/// Kills processes of an earlier agent that was killed before its child had set
/// `PR_SET_PDEATHSIG`. They are recognized by the session folders in their arguments.
fn kill_orphans(run: &Path) {
    let mut prefix = run.as_os_str().as_encoded_bytes().to_vec();
    prefix.push(b'/');
    let own_pid = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(command_line) = fs::read(entry.path().join("cmdline")) else { continue };
        let is_ours = command_line
            .split(|b| *b == 0)
            .next()
            .is_some_and(|program| program == b"bwrap" || program == b"sh");
        if is_ours
            && u32::try_from(pid) != Ok(own_pid)
            && command_line.windows(prefix.len()).any(|part| part == prefix)
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            tracing::warn!(
                pid = pid.as_raw_nonzero().get(),
                "killing a process that an earlier agent left"
            );
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// FNV-1a: a short name for a path that is stable between starts.
fn fnv1a(path: &Path) -> u32 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The folder of a session.
#[must_use]
pub fn session_folder(state_dir: &Path, session: SessionId) -> PathBuf {
    state_dir.join("run").join(session.to_string())
}
