//! The documents name only commands, targets and files that exist.

use super::{files, root, shown};
use clap::CommandFactory as _;
use std::fs;

/// The documents at the top, and those of the folder.
fn documents() -> Vec<String> {
    let top = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let folder = files("docs", ".md");
    top.iter().map(|name| (*name).to_owned()).chain(folder.iter().map(|path| shown(path))).collect()
}

/// Every `` `...` `` and every line of a fenced block.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (i, block) in text.split("```").enumerate() {
        if i % 2 == 1 {
            found.extend(block.lines().skip(1).map(str::to_owned));
        } else {
            found.extend(block.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_command_of_the_documents_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for document in documents() {
        for line in code(&fs::read_to_string(root().join(&document)).unwrap()) {
            let words: Vec<&str> = line.trim_start_matches("$ ").split_whitespace().collect();
            match words.as_slice() {
                ["make", target, ..] => {
                    assert!(makefile.contains(&format!("\n{target}:")), "{document}: make {target}")
                }
                ["portcullis", rest @ ..] => {
                    let mut command = portcullis::app::cli::Cli::command();
                    for word in rest.iter().take_while(|w| {
                        w.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !w.starts_with('-')
                    }) {
                        if !command.has_subcommands() {
                            break;
                        }
                        let next = command
                            .find_subcommand(word)
                            .unwrap_or_else(|| panic!("{document}: `{line}`: no command {word}"))
                            .clone();
                        command = next;
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn every_linked_file_exists() {
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().unwrap();
            if !link.contains("://") && !link.starts_with('#') {
                let path = link.split('#').next().unwrap();
                let folder = root().join(&document).parent().unwrap().to_owned();
                assert!(folder.join(path).exists(), "{document} links to {path}");
            }
        }
    }
}

#[test]
fn every_named_file_exists() {
    // CHANGELOG.md speaks of the past.
    for document in documents().iter().filter(|name| *name != "CHANGELOG.md") {
        for line in code(&fs::read_to_string(root().join(document)).unwrap()) {
            for word in line.split_whitespace() {
                let path = word.trim_end_matches(['.', ',', ':', ';', ')']);
                let ours = ["src/", "tests/", "benches/", "docs/", "migrations/", "static/src/"];
                let named = ours.iter().any(|folder| path.starts_with(folder));
                if named && !path.contains(['*', '<', '{', 'N']) {
                    assert!(root().join(path).exists(), "{document} names {path}");
                }
            }
        }
    }
}

#[test]
fn tests_that_may_fail_once_exist_and_have_a_reason() {
    let text = fs::read_to_string(root().join("tests/flaky.txt")).unwrap();
    let listed: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).collect();
    let sources = |folder: &str, ending: &str| {
        files(folder, ending)
            .iter()
            .map(|path| fs::read_to_string(path).unwrap())
            .collect::<String>()
    };
    let all = sources("tests", ".rs") + &sources("src", ".rs") + &sources("tests/e2e", ".ts");
    for line in listed {
        let (name, reason) = line.split_once('\t').unwrap_or_else(|| panic!("no tab: {line}"));
        assert!(reason.trim().len() >= 20, "{name}: a reason is needed");
        let name = name.trim_end_matches("::sqlite").trim_end_matches("::postgres");
        let last = name.rsplit("::").next().unwrap();
        assert!(all.contains(last), "{name}: there is no such test");
    }
}

#[test]
fn the_lock_files_name_no_registry() {
    for lock in files("static", "package-lock.json")
        .into_iter()
        .chain(files("tests/e2e", "package-lock.json"))
    {
        let text = fs::read_to_string(&lock).unwrap();
        assert!(
            !text.contains("\"resolved\": \"http"),
            "{}: write it with npm's omit-lockfile-registry-resolved",
            lock.display()
        );
    }
}
