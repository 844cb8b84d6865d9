//! The command that runs a desktop in its sandbox, with the reason for each part.
//!
//! A root agent uses two sandboxes. The outer one runs as root: a PID namespace, and a folder where
//! the session's folders are mounted, because the session's uid cannot traverse the agent's own.
//! Then `setpriv` switches to that uid and drops every capability. The inner one, as that uid, is
//! the sandbox proper. The outer PID namespace also guarantees that desktops die with the agent: a
//! root process without capabilities may not signal a process of another uid, but the end of a
//! namespace's first process kills all others in it.

use super::cgroups::Group;
use super::homes::Account;
use super::limits::Limits;
use super::network::DesktopNetwork;
use super::spec::{DesktopSpec, DisplayProtocol};
use super::{desktop_files, rdp, seccomp, socket};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Files of `/etc` that a desktop needs, if they exist. None of them is secret.
const ETC_FILES: &[&str] = &[
    "chromium.d",
    "fonts",
    "alternatives",
    "X11",
    "xdg",
    "ssl/certs",
    "ca-certificates.conf",
    "localtime",
    "timezone",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "bash.bashrc",
    "profile",
    "profile.d",
    "inputrc",
    "mime.types",
    "gtk-2.0",
    "gtk-3.0",
    "dbus-1",
    "nsswitch.conf",
    "services",
    "protocols",
];
/// Where a root agent's outer sandbox mounts the session's folders.
const STAGING_DIR: &str = "/mnt";
/// Sizes of the writable file systems in memory, as parts of a desktop's memory. Together they are
/// less than half of it, so that a full one does not end the desktop.
const TMP_PART: u64 = 4;
const SHM_PART: u64 = 8;
const RUN_PART: u64 = 64;
/// Bytes of the folder of the server's socket.
const SOCKET_FOLDER_BYTES: u64 = 64 * 1024;

/// Opens the filters of system calls as descriptors 3 and 4, for the command that follows them.
const OPEN_FILTERS_SCRIPT: &str = r#"second=$1; shift; exec "$@" 3<"$0" 4<"$second""#;

/// The folders of one session.
#[derive(Clone, Copy, Debug)]
pub struct Folders<'a> {
    /// See [`desktop_files`].
    pub desktop_files: &'a Path,
    /// `passwd`, `group`, `hosts` of this session, and its `vncpasswd`, or certificate and key.
    pub etc: &'a Path,
    pub home: &'a Path,
}

/// Login name inside the sandbox, derived from the display name.
#[must_use]
pub fn login_name(user_name: &str) -> String {
    let mut name = String::new();
    for c in user_name.trim().chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            ' ' | '.' | '-' | '_' | '@' if !name.is_empty() && !name.ends_with('-') => {
                name.push('-')
            }
            _ => {}
        }
        if name.len() == 24 {
            break;
        }
    }
    let name = name.trim_end_matches('-');
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name != "root" && name != "nobody" {
        name.to_owned()
    } else {
        "user".to_owned()
    }
}

/// The whole command: program and arguments.
#[must_use]
pub(super) fn command(
    spec: &DesktopSpec,
    folders: Folders<'_>,
    account: Account,
    limits: &Limits,
    group: &Group,
    network: Option<&DesktopNetwork>,
) -> Vec<OsString> {
    let mut arguments = Arguments::default();
    group.command_prefix().iter().for_each(|argument| arguments.push(argument));
    if account.switch_user {
        let stage = Path::new(STAGING_DIR);
        let [share, etc, home] = ["share", "etc", "home"].map(|name| stage.join(name));
        arguments.push_all([
            "bwrap",
            "--die-with-parent",
            "--unshare-pid",
            "--dev-bind",
            "/",
            "/",
            "--tmpfs",
            STAGING_DIR,
        ]);
        for (how, from, to) in [
            ("--ro-bind", folders.desktop_files, &share),
            ("--ro-bind", folders.etc, &etc),
            ("--bind", folders.home, &home),
        ] {
            arguments.push(how);
            arguments.push(from);
            arguments.push(to);
        }
        let uid = account.uid.to_string();
        arguments.push_all([
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &uid,
            "--clear-groups",
            "--no-new-privs",
        ]);
        arguments.push_all(["--bounding-set=-all", "--inh-caps=-all", "--pdeathsig", "KILL"]);
        push_inner_sandbox(
            &mut arguments,
            spec,
            Folders { desktop_files: &share, etc: &etc, home: &home },
            (limits, account, network),
        );
    } else {
        push_inner_sandbox(&mut arguments, spec, folders, (limits, account, network));
    }
    arguments.0
}

fn push_inner_sandbox(
    arguments: &mut Arguments,
    spec: &DesktopSpec,
    folders: Folders<'_>,
    (limits, account, network): (&Limits, Account, Option<&DesktopNetwork>),
) {
    let login = login_name(&spec.user_name);
    let home = format!("/home/{login}");
    if let Some(network) = network {
        network.command_prefix().iter().for_each(|argument| arguments.push(argument));
    }
    arguments.push_all(["sh", "-c", OPEN_FILTERS_SCRIPT]);
    let [permitted, namespaces] = seccomp::FILES.map(|name| folders.desktop_files.join(name));
    arguments.push(permitted);
    arguments.push(namespaces);
    arguments.push_all(["bwrap", "--add-seccomp-fd", "3", "--add-seccomp-fd", "4"]);
    arguments.push_all(["--die-with-parent", "--new-session", "--clearenv"]);
    arguments.push_all([
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup",
    ]);
    // User namespaces are a large attack surface of the kernel.
    arguments.push_all(["--disable-userns", "--hostname", spec.workspace_id.as_str()]);
    arguments.push_all(["--ro-bind", "/usr", "/usr"]);
    for name in ["bin", "sbin", "lib", "lib64"] {
        arguments.push_all(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
    }
    arguments.push_all(["--proc", "/proc", "--dev", "/dev", "--dir", "/etc"]);
    // In memory, and limited in size, since there may be no cgroup that counts it.
    for (mode, bytes, path) in [
        ("1777", limits.memory / SHM_PART, "/dev/shm"),
        ("1777", limits.memory / TMP_PART, "/tmp"),
        ("0755", limits.memory / RUN_PART, "/run"),
        ("0700", SOCKET_FOLDER_BYTES, socket::FOLDER),
    ] {
        arguments.push_all(["--perms", mode, "--size", &bytes.to_string(), "--tmpfs", path]);
    }
    arguments.push_all([
        "--perms",
        "1777",
        "--dir",
        "/tmp/.X11-unix",
        "--perms",
        "0700",
        "--dir",
        "/run/user",
    ]);
    arguments.push_all(["--symlink", "/tmp", "/var/tmp", "--symlink", "/run", "/var/run"]);
    arguments.push_all(["--ro-bind-try", "/var/cache/fontconfig", "/var/cache/fontconfig"]);
    for name in ETC_FILES {
        let path = format!("/etc/{name}");
        arguments.push_all(["--ro-bind-try", &path, &path]);
    }
    if network.is_some() {
        // It is root of the namespace around it, and must not be inside.
        let uid = account.uid.to_string();
        arguments.push_all(["--uid", &uid, "--gid", &uid, "--cap-drop", "ALL"]);
        arguments.bind("--ro-bind", &folders.etc.join("resolv.conf"), "/etc/resolv.conf");
    } else {
        arguments.push("--unshare-net");
    }
    arguments.bind("--ro-bind", folders.desktop_files, desktop_files::SANDBOX_DIR);
    for name in ["passwd", "group", "hosts", "machine-id"] {
        arguments.bind("--ro-bind", &folders.etc.join(name), format!("/etc/{name}"));
    }
    match spec.protocol {
        DisplayProtocol::Rfb => {
            arguments.bind("--ro-bind", &folders.etc.join("vncpasswd"), "/run/vncpasswd")
        }
        DisplayProtocol::Rdp => {
            for name in [rdp::CERTIFICATE, rdp::KEY] {
                arguments.bind("--ro-bind", &folders.etc.join(name), format!("/run/{name}"));
            }
            // xrdp reads its keyboard maps and settings there: ours instead of the machine's.
            arguments.push_all([
                "--symlink",
                &format!("{}/xrdp", desktop_files::SANDBOX_DIR),
                "/etc/xrdp",
            ]);
        }
    }
    arguments.bind("--bind", folders.home, &home);
    // What is left are mount points and links.
    arguments.push_all(["--remount-ro", "/dev", "--remount-ro", "/"]);
    arguments.push_all(["--chdir", &home]);
    let (width, height) = limits.geometry;
    for (name, value) in [
        ("HOME", home.as_str()),
        ("USER", &login),
        ("LOGNAME", &login),
        ("SHELL", "/bin/bash"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/games"),
        ("LANG", "C.UTF-8"),
        ("XDG_RUNTIME_DIR", "/run/user"),
        ("XDG_DATA_DIRS", "/etc/portcullis:/usr/local/share:/usr/share"),
        ("XDG_CONFIG_DIRS", "/etc/portcullis/xdg:/etc/xdg"),
        ("XDG_SESSION_TYPE", "x11"),
        ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/user/bus"),
        ("NO_AT_BRIDGE", "1"),
        ("XENVIRONMENT", "/etc/portcullis/Xresources"),
        ("XCURSOR_THEME", "Adwaita"),
        ("GTK2_RC_FILES", "/etc/portcullis/gtkrc-2.0"),
        ("PORTCULLIS_TITLE", &without_controls(&spec.workspace_name)),
        ("PORTCULLIS_GEOMETRY", &format!("{width}x{height}")),
    ] {
        arguments.push_all(["--setenv", name, value]);
    }
    // Inside the user namespace, so that only this desktop's processes count, not all of the uid's.
    arguments.push("prlimit");
    limits.prlimit().iter().for_each(|limit| arguments.push(limit));
    arguments.push_all(["sh", spec.protocol.start_script()]);
}

/// Contents of `passwd`, `group`, `hosts` and `machine-id`.
#[must_use]
pub fn etc_files(spec: &DesktopSpec, uid: u32) -> [(&'static str, String); 4] {
    let login = login_name(&spec.user_name);
    let shown: String =
        without_controls(&spec.user_name).chars().filter(|c| !matches!(c, ':' | ',')).collect();
    let host = &spec.workspace_id;
    [
        (
            "passwd",
            format!(
                "{login}:x:{uid}:{uid}:{shown}:/home/{login}:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
            ),
        ),
        ("group", format!("{login}:x:{uid}:\nnogroup:x:65534:\n")),
        ("hosts", format!("127.0.0.1\tlocalhost {host}\n::1\tlocalhost\n")),
        ("machine-id", format!("{}\n", spec.session_id.0.simple())),
    ]
}

/// Display text without control characters.
fn without_controls(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(crate::host::control::NAME_MAX).collect()
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn push(&mut self, argument: impl AsRef<OsStr>) {
        self.0.push(argument.as_ref().to_owned());
    }

    fn push_all<const N: usize>(&mut self, arguments: [&str; N]) {
        arguments.iter().for_each(|argument| self.push(argument));
    }

    fn bind(&mut self, how: &str, from: &Path, to: impl AsRef<OsStr>) {
        self.push(how);
        self.push(from);
        self.push(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_names_are_system_names() {
        for (shown, name) in [
            ("Mona Member", "mona-member"),
            ("  root ", "user"),
            ("", "user"),
            ("123", "user"),
            ("Ünal Öz", "nal-z"),
            ("a:b\nc/../d", "abc-d"),
            ("x".repeat(80).as_str(), "x".repeat(24).as_str()),
            ("日本", "user"),
        ] {
            assert_eq!(login_name(shown), name, "{shown:?}");
        }
    }

    #[test]
    fn no_name_adds_a_line_or_a_field() {
        let spec = DesktopSpec {
            session_id: crate::domain::SessionId::new(),
            user_id: crate::domain::UserId::new(),
            user_name: "eve:x:0:0\nroot::0:0:,:".to_owned(),
            workspace_id: crate::domain::WorkspaceId::parse("ws-1").unwrap(),
            workspace_name: "W\u{1b}]0;x\u{7}".to_owned(),
            network: false,
            protocol: DisplayProtocol::Rfb,
        };
        let [(_, passwd), (_, group), ..] = etc_files(&spec, 200_001);
        assert_eq!(passwd.lines().count(), 2);
        assert_eq!(passwd.lines().next().unwrap().split(':').count(), 7);
        assert_eq!(passwd.lines().next().unwrap().split(':').nth(2), Some("200001"));
        assert_eq!(group.lines().count(), 2);
        assert_eq!(without_controls(&spec.workspace_name), "W]0;x");
    }
}
