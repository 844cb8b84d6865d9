//! The look of a desktop: files compiled in, written once per agent start, seen at `/etc/portcullis` in every sandbox, read-only.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where they are in a sandbox.
pub const AT: &str = "/etc/portcullis";

const FILES: &[(&str, &str)] = &[
    ("start.sh", include_str!("session/start.sh")),
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
pub const HOME_FILES: &[(&str, &str)] = &[(".bashrc", include_str!("session/bashrc")), (".profile", include_str!("session/profile"))];
/// Folders of a new home.
pub const HOME_FOLDERS: &[&str] = &["Documents", "Downloads"];

/// Writes the files under `folder`, readable by all.
///
/// # Errors
/// The first file that could not be written.
pub fn write(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    open_folder(folder)?;
    for (name, text) in FILES {
        let path = folder.join(name);
        let mut parent = folder.to_path_buf();
        for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            if !parent.exists() {
                open_folder(&parent)?;
            }
        }
        readable(&path, text)?;
    }
    Ok(())
}

/// Writes a file that all may read.
pub(super) fn readable(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

fn open_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
