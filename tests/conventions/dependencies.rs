//! What dependencies bring in: licences, sources, banned crates and second versions, by deny.toml.
//! `cargo deny` checks the same where it is installed; npm's packages are checked here alone.

use super::root;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Entry>,
    skip: Vec<Entry>,
}

#[derive(Deserialize)]
struct Sources {
    #[serde(rename = "allow-registry")]
    allow_registry: Vec<String>,
}

/// A crate, with a version or without, and why it is in the list.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

impl Entry {
    /// `name@1.2` matches 1.2.x, as Cargo's default requirement does for these.
    fn matches(&self, name: &str, version: &str) -> bool {
        match self.name.split_once('@') {
            None => self.name == name,
            Some((own, prefix)) => {
                own == name
                    && version.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
            }
        }
    }
}

fn deny() -> Deny {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    config::Config::builder()
        .add_source(config::File::from_str(&text, config::FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize)
        .unwrap()
}

/// Licences of npm packages beyond those of deny.toml: build tools and their data.
const NPM_LICENCES: &[&str] = &["BlueOak-1.0.0", "CC-BY-4.0", "Python-2.0"];

/// Whether an SPDX expression can be met with allowed licences only. `AND` binds tighter than `OR`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ");
    let tokens: Vec<String> = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut at = 0;
    let met = any_of(&tokens, &mut at, allowed);
    met && at == tokens.len()
}

fn any_of(tokens: &[String], at: &mut usize, allowed: &[&str]) -> bool {
    let mut met = all_of(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "OR") {
        *at += 1;
        met |= all_of(tokens, at, allowed);
    }
    met
}

fn all_of(tokens: &[String], at: &mut usize, allowed: &[&str]) -> bool {
    let mut met = licence(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "AND") {
        *at += 1;
        met &= licence(tokens, at, allowed);
    }
    met
}

fn licence(tokens: &[String], at: &mut usize, allowed: &[&str]) -> bool {
    let Some(token) = tokens.get(*at) else { return false };
    *at += 1;
    if token == "(" {
        let met = any_of(tokens, at, allowed);
        *at += 1;
        return met;
    }
    let mut name = token.clone();
    if tokens.get(*at).is_some_and(|token| token == "WITH") {
        name = format!("{name} WITH {}", tokens.get(*at + 1).map_or("", String::as_str));
        *at += 2;
    }
    allowed.contains(&name.as_str())
}

/// The crates that are built for this platform, with every feature, from `cargo metadata`.
fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    // Crates of other platforms need not be downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let out = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--all-features"])
        .args(["--filter-platform", &platform])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let built: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["id"].as_str().unwrap())
        .collect();
    let packages: Vec<Value> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| built.contains(package["id"].as_str().unwrap()))
        .cloned()
        .collect();
    assert!(packages.len() > 100, "the whole tree was read");
    packages
}

fn name_and_version(package: &Value) -> (&str, &str) {
    (package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
}

#[test]
fn crates_have_allowed_licences() {
    let deny = deny();
    let allowed: Vec<&str> = deny.licenses.allow.iter().map(String::as_str).collect();
    let bad: Vec<String> = packages()
        .iter()
        .filter(|p| !p["license"].as_str().is_some_and(|text| is_allowed(text, &allowed)))
        .map(|p| format!("{} {}: {}", p["name"], p["version"], p["license"]))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn npm_packages_have_allowed_licences() {
    let deny = deny();
    let allowed: Vec<&str> = deny
        .licenses
        .allow
        .iter()
        .map(String::as_str)
        .chain(NPM_LICENCES.iter().copied())
        .collect();
    for lock in ["static/package-lock.json", "tests/e2e/package-lock.json"] {
        let text =
            std::fs::read_to_string(root().join(lock)).unwrap_or_else(|e| panic!("{lock}: {e}"));
        let value: Value = serde_json::from_str(&text).unwrap();
        for (name, package) in
            value["packages"].as_object().unwrap().iter().filter(|(name, _)| !name.is_empty())
        {
            let licence = package["license"].as_str().unwrap_or("none");
            assert!(is_allowed(licence, &allowed), "{lock}: {name}: {licence}");
        }
    }
}

#[test]
fn crates_come_from_allowed_registries() {
    let deny = deny();
    for package in packages() {
        let (name, _) = name_and_version(&package);
        match package["source"].as_str() {
            None => assert_eq!(name, "portcullis", "a crate from a path"),
            Some(source) => {
                let registry = source.strip_prefix("registry+").unwrap_or(source);
                let known = deny.sources.allow_registry.iter().any(|allowed| allowed == registry);
                assert!(known, "{name} comes from {source}");
            }
        }
    }
}

#[test]
fn banned_crates_are_not_built() {
    let deny = deny();
    for package in packages() {
        let (name, version) = name_and_version(&package);
        if let Some(banned) = deny.bans.deny.iter().find(|entry| entry.matches(name, version)) {
            panic!("{name}: {}", banned.reason);
        }
    }
}

#[test]
fn a_crate_has_one_version_unless_listed() {
    let skip = deny().bans.skip;
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let (name, version) = name_and_version(&package);
        versions.entry(name.to_owned()).or_default().insert(version.to_owned());
    }
    let mut wrong = Vec::new();
    for (name, versions) in &versions {
        let unlisted: Vec<&String> = versions
            .iter()
            .filter(|version| !skip.iter().any(|entry| entry.matches(name, version)))
            .collect();
        if unlisted.len() > 1 {
            wrong.push(format!("{name}: {unlisted:?}: list all but one with a reason"));
        }
    }
    for entry in &skip {
        let several = versions.iter().any(|(name, versions)| {
            versions.len() > 1 && versions.iter().any(|version| entry.matches(name, version))
        });
        if !several {
            wrong.push(format!("{}: no second version any more, remove it", entry.name));
        }
        assert!(entry.reason.len() > 3, "{} has no reason", entry.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn expressions_are_understood() {
    let allowed = ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"];
    for yes in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
    ] {
        assert!(is_allowed(yes, &allowed), "{yes}");
    }
    for no in ["GPL-3.0", "MIT AND AGPL-3.0", "LGPL-2.1", "", "(MIT OR GPL-3.0) AND GPL-2.0"] {
        assert!(!is_allowed(no, &allowed), "{no}");
    }
    let entry = |name: &str| Entry { name: name.into(), reason: String::new() };
    assert!(entry("http@0.2").matches("http", "0.2.12"));
    assert!(!entry("http@0.2").matches("http", "0.20.1"));
    assert!(!entry("http@0.2").matches("http-body", "0.2.1"));
    assert!(entry("native-tls").matches("native-tls", "0.2.1"));
}
