//! The documents name only commands, targets and files that exist.

use super::{files, root};
use clap::CommandFactory as _;
use std::fs;

const DOCUMENTS: [&str; 2] = ["README.md", "ARCHITECTURE.md"];

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
    for document in DOCUMENTS {
        for line in code(&fs::read_to_string(root().join(document)).unwrap()) {
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
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().unwrap();
            if !link.contains("://") && !link.starts_with('#') {
                let path = link.split('#').next().unwrap();
                assert!(root().join(path).exists(), "{document} links to {path}");
            }
        }
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
