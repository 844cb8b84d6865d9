//! Configuration files of desktops: embedded in the binary, written at each start of the agent, and
//! mounted read-only at `/etc/portcullis` in every sandbox.

use crate::files;
use std::fs;
use std::io;
use std::path::Path;

/// Where they are mounted in a sandbox.
pub const SANDBOX_DIR: &str = "/etc/portcullis";
/// Where the xrdp package has its keyboard maps.
const XRDP_DIR: &str = "/etc/xrdp";
/// Largest keyboard map, in bytes: xrdp's have some 10 KiB.
const KEYBOARD_MAX: u64 = 256 * 1024;

const FILES: &[(&str, &str)] = &[
    ("start.sh", include_str!("session/start.sh")),
    ("start-rdp.sh", include_str!("session/start-rdp.sh")),
    ("keymap.sh", include_str!("session/keymap.sh")),
    ("seen.sh", include_str!("session/seen.sh")),
    ("xorg.conf", include_str!("session/xorg.conf")),
    ("xrdp/xrdp.ini", include_str!("session/xrdp/xrdp.ini")),
    ("xrdp/rsakeys.ini", include_str!("session/xrdp/rsakeys.ini")),
    ("xrdp/sesman.ini", include_str!("session/xrdp/sesman.ini")),
    ("openbox.xml", include_str!("session/openbox.xml")),
    ("menu.xml", include_str!("session/menu.xml")),
    ("tint2rc", include_str!("session/tint2rc")),
    ("Xresources", include_str!("session/Xresources")),
    ("gtkrc-2.0", include_str!("session/gtkrc-2.0")),
    ("applications/terminal.desktop", include_str!("session/terminal.desktop")),
    ("applications/files.desktop", include_str!("session/files.desktop")),
    ("themes/Portcullis/openbox-3/themerc", include_str!("session/themerc")),
    ("xdg/gtk-3.0/settings.ini", include_str!("session/gtk-settings.ini")),
];

/// Files of a new home; the user's own from then on.
pub const HOME_FILES: &[(&str, &str)] =
    &[(".bashrc", include_str!("session/bashrc")), (".profile", include_str!("session/profile"))];
/// Folders of a new home.
pub const HOME_FOLDERS: &[&str] = &["Documents", "Downloads"];

/// Writes the files under `folder`, readable by all.
///
/// # Errors
/// The first file that could not be written.
pub fn install(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    files::create_public_dir(folder)?;
    for (name, text) in FILES {
        let path = folder.join(name);
        let mut parent = folder.to_path_buf();
        for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            if !parent.exists() {
                files::create_public_dir(&parent)?;
            }
        }
        files::write_public(&path, text.as_bytes())?;
    }
    copy_keyboard_maps(&folder.join("xrdp"))
}

/// Copies xrdp's keyboard maps only: the folder may also hold files of the administrator, which
/// desktops must not read.
fn copy_keyboard_maps(to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(XRDP_DIR).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let wanted = name.to_str().is_some_and(|name| {
            name == "xrdp_keyboard.ini" || (name.starts_with("km-") && name.ends_with(".ini"))
        });
        if wanted && entry.metadata()?.len() <= KEYBOARD_MAX {
            let map = fs::read(entry.path())?;
            files::write_public(&to.join(&name), String::from_utf8_lossy(&map).as_bytes())?;
        }
    }
    Ok(())
}
