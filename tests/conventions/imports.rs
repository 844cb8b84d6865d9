//! Which module may use which: the table of ARCHITECTURE.md, the table inside `broker`, and no
//! circles between files.

use super::graph::{Graph, module_of, top};
use super::root;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Each module, and the others it may use.
const TABLE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("files", &[]),
    ("protocol", &[]),
    ("auth", &["domain"]),
    ("store", &["domain", "files"]),
    ("broker", &["domain", "auth", "store"]),
    ("tunnel", &["domain"]),
    ("viewer", &["domain", "broker", "protocol", "tunnel"]),
    ("host", &["domain", "protocol", "tunnel", "files"]),
    ("fleet", &["domain", "broker", "tunnel", "viewer", "host"]),
    ("http", &["domain", "broker", "viewer"]),
    ("config", &["domain", "telemetry"]),
    ("telemetry", &[]),
];

/// The composition root may use all of them.
const ROOTS: &[&str] = &["app", "main", "lib"];

/// Each part of `broker`, and the others it may use. `mod.rs` may use all of them.
const BROKER: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("ports", &["model"]),
    ("core", &["ports", "model"]),
    ("catalog", &["ports", "model", "core"]),
    ("identity", &["ports", "model", "core"]),
    ("targets", &["ports", "model", "core"]),
    ("hosts", &["ports", "model", "core"]),
    ("audit", &["ports", "model", "core"]),
    ("sessions", &["ports", "model", "core", "catalog", "identity", "targets", "hosts", "audit"]),
    (
        "jobs",
        &["ports", "model", "core", "catalog", "identity", "targets", "hosts", "audit", "sessions"],
    ),
];

#[test]
fn every_import_is_in_the_table() {
    let table: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut wrong = BTreeSet::new();
    for (path, used) in Graph::read().uses {
        let module = top(&path).to_owned();
        if ROOTS.contains(&module.as_str()) {
            continue;
        }
        let Some(allowed) = table.get(module.as_str()) else {
            wrong.insert(format!("{path}: module {module} is not in the table"));
            continue;
        };
        for other in used.iter().map(|used| top(used)).filter(|other| *other != module) {
            if !allowed.contains(&other) {
                wrong.insert(format!("{path}: {module} may not use {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn the_document_shows_the_same_table() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (module, allowed) in TABLE {
        let row = text
            .lines()
            .find(|line| {
                line.starts_with(&format!("| `{module}/` |"))
                    || line.starts_with(&format!("| `{module}` |"))
            })
            .unwrap_or_else(|| panic!("no row for {module}"));
        let cell = row.split('|').nth(3).unwrap().trim();
        let expected =
            if *allowed == [] as [&str; 0] { "nothing".to_owned() } else { allowed.join(", ") };
        assert_eq!(cell, expected, "ARCHITECTURE.md on {module}");
    }
}

#[test]
fn every_import_inside_broker_is_in_its_table() {
    let table: BTreeMap<&str, &[&str]> = BROKER.iter().copied().collect();
    let part = |path: &str| {
        let module = module_of(path);
        (module.first().is_some_and(|top| top == "broker") && module.len() > 1)
            .then(|| module[1].clone())
    };
    let mut wrong = BTreeSet::new();
    for (path, used) in Graph::read().uses {
        let Some(from) = part(&path) else { continue };
        let Some(allowed) = table.get(from.as_str()) else {
            wrong.insert(format!("{path}: {from} is not in the table"));
            continue;
        };
        for to in used.iter().filter(|used| top(used) == "broker") {
            let fits = part(to).is_some_and(|to| to == from || allowed.contains(&to.as_str()));
            if !fits {
                wrong.insert(format!("{path} may not use {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let graph = Graph::read();
    let circles: Vec<String> = graph
        .circles()
        .iter()
        .map(|circle| {
            let arrows = circle.iter().map(|from| {
                let to = graph.uses[*from].iter().filter(|to| circle.contains(&to.as_str()));
                format!("  {from} -> {}", to.cloned().collect::<Vec<_>>().join(", "))
            });
            arrows.collect::<Vec<_>>().join("\n")
        })
        .collect();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n\n"));
}
