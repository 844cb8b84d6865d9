//! Which module may use which: the table of ARCHITECTURE.md, checked against every file.

use super::{files, root, shown};
use std::collections::BTreeMap;
use std::fs;

/// Each module, and the others it may use.
const TABLE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("protocol", &[]),
    ("auth", &["domain"]),
    ("store", &["domain"]),
    ("broker", &["domain", "auth", "store"]),
    ("tunnel", &["domain"]),
    ("viewer", &["domain", "broker", "protocol", "tunnel"]),
    ("host", &["domain", "protocol", "tunnel"]),
    ("fleet", &["domain", "broker", "tunnel", "viewer", "host"]),
    ("http", &["domain", "broker", "viewer"]),
];

/// These compose the others and may use all of them.
const ROOTS: &[&str] = &["app", "config", "telemetry", "main", "lib"];

/// A source file as a module path: `src/broker/live.rs` is `broker::live`.
fn module_path(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').map(str::to_owned).collect()
}

/// The top-level modules that a text names by `crate::x` or by enough `super::`s, without its unit
/// tests.
fn used(module: &[String], text: &str) -> Vec<String> {
    let code: String = text
        .split("#[cfg(test)]")
        .next()
        .unwrap()
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let supers = "super::".repeat(module.len());
    let mut found = Vec::new();
    for prefix in ["crate::", &supers] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                // `use crate::{a::..., b}`: the names at depth one.
                let mut depth = 0usize;
                let mut start = true;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if c.is_alphabetic() && start => {
                            found.push(word(&group[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            } else {
                found.push(word(rest));
            }
        }
    }
    found.retain(|name| !name.is_empty() && *name != module[0]);
    found.sort();
    found.dedup();
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn every_import_is_in_the_table() {
    let table: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in files("src", ".rs") {
        let module = module_path(&shown(&path));
        if ROOTS.contains(&module[0].as_str()) {
            continue;
        }
        let Some(allowed) = table.get(module[0].as_str()) else {
            wrong.push(format!("{}: module {} is not in the table", shown(&path), module[0]));
            continue;
        };
        for name in used(&module, &fs::read_to_string(&path).unwrap()) {
            // Other names are macros and items of the crate root.
            let is_module = table.contains_key(name.as_str()) || ROOTS.contains(&name.as_str());
            if is_module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{}: {} may not use {name}", shown(&path), module[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_document_shows_the_same_table() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (module, allowed) in TABLE {
        let row = text
            .lines()
            .find(|l| l.starts_with(&format!("| `{module}/` |")))
            .unwrap_or_else(|| panic!("no row for {module}"));
        let cell = row.split('|').nth(3).unwrap().trim();
        let said =
            if *allowed == [] as [&str; 0] { "nothing".to_owned() } else { allowed.join(", ") };
        assert_eq!(cell, said, "ARCHITECTURE.md on {module}");
    }
}

#[test]
fn the_reader_of_imports_reads() {
    let module = module_path("src/broker/live.rs");
    assert_eq!(module, ["broker", "live"]);
    let text = "use crate::domain::Error;\nuse crate::{store::Tx, viewer, auth::{self, x}};\nlet a = super::super::http::x();\n// crate::host\n#[cfg(test)]\nuse crate::tunnel::X;";
    assert_eq!(used(&module, text), ["auth", "domain", "http", "store", "viewer"]);
}
