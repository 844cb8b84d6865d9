//! The repository's conventions: module imports, file sizes, words, dependencies, documents.

mod dependencies;
mod documents;
mod graph;
mod imports;
mod layers;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file.
const MAX_LINES: usize = 400;

/// Tests wait for conditions with `support::wait`. These wait for time, as often as said, and why.
const SLEEPS: &[(&str, usize, &str)] = &[
    ("tests/support/wait.rs", 2, "polls"),
    ("tests/faults/flood.rs", 1, "the rate of requests"),
    ("tests/faults/restart.rs", 1, "the kill comes at different moments of a launch"),
    (
        "tests/interop/mod.rs",
        3,
        "counters are compared when nothing is in flight; a long test's rate",
    ),
    ("tests/tunnel/flood.rs", 1, "the rate of the flood"),
    ("tests/viewer/html5/websocket.rs", 1, "the time of last use moves on"),
    ("tests/viewer/policy.rs", 1, "the rate of update requests"),
    ("tests/viewer/rdp/xrdp.rs", 1, "a line is typed again only when the last had time to arrive"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` whose name ends so, in order.
fn files(dir: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "node_modules" && name != "dist") {
                    walk(&path, ending, found);
                }
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(dir), ending, &mut found);
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn files_stay_small() {
    let long: Vec<String> = ["src", "tests"]
        .iter()
        .flat_map(|dir| files(dir, ".rs"))
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, path)| format!("{} has {lines} lines", shown(&path)))
        .collect();
    assert!(long.is_empty(), "longer than {MAX_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = files("src", ".rs")
        .iter()
        .filter(|p| !fs::read_to_string(p).unwrap().starts_with("//! "))
        .map(|p| shown(p))
        .collect();
    assert!(silent.is_empty(), "no module documentation on the first line:\n{}", silent.join("\n"));
}

#[test]
fn nothing_is_unsafe() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(
        manifest.contains("unsafe_code = \"forbid\""),
        "the compiler is told to forbid unsafe code"
    );
    for path in files("src", ".rs") {
        let text = fs::read_to_string(&path).unwrap();
        for mark in ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"] {
            assert!(!text.contains(mark), "{}: {mark}", shown(&path));
        }
    }
}

#[test]
fn tests_wait_for_conditions() {
    let sleep = ["sleep", "("].concat();
    for path in files("tests", ".rs") {
        let (path, text) = (shown(&path), fs::read_to_string(&path).unwrap());
        if path.starts_with("tests/fuzz/") {
            continue;
        }
        let allowed = SLEEPS.iter().find(|(name, ..)| *name == path).map_or(0, |(_, n, _)| *n);
        let found = text.matches(&sleep).count();
        assert_eq!(found, allowed, "{path}: use support::wait, or give a reason in SLEEPS");
    }
}
