//! (p) Time from the click on a workspace to the first picture in headless Chromium, on the whole
//! product, and the download size of the viewer pages. The browser's part is
//! `tests/e2e/first-frame.bench.ts`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use crate::machine::{is_installed, quantile};
use crate::table::{Row, Threshold};
use crate::{Outcome, Settings, fail};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const RUN_TIMEOUT: Duration = Duration::from_secs(900);
const CHROMIUM: &str = "/usr/bin/chromium";

/// The kinds of workspace that are launched, with their description in the table.
const KINDS: [(&str, &str); 5] = [
    ("linux", "a desktop of TigerVNC that the agent starts"),
    ("rdp", "a desktop of xrdp that the agent starts"),
    ("vnc", "a VNC server that is there (TigerVNC, password)"),
    ("nla", "an RDP server that is there (FreeRDP's, NLA)"),
    ("html5", "a web application"),
];

/// The viewers whose size has a limit: their names in `static/tools/size.mjs`, and KiB.
const BUNDLE_LIMITS: [(&str, &str, f64); 2] = [
    ("VNC", "viewer of a VNC desktop", 90.0),
    ("RDP", "viewer of an RDP desktop, with its WASM", 1843.2),
];

#[derive(Deserialize)]
#[serde(untagged)]
enum Figure {
    Ms { ms: Vec<f64> },
    Absent { absent: String },
}

pub async fn measure(settings: &Settings, rows: &mut Vec<Row>) -> Outcome<()> {
    const FIGURE: &str = "from the click to the first picture";
    if let Some(missing) = missing_requirement() {
        rows.push(Row::unmeasured("p", FIGURE, missing));
    } else {
        let launches = settings.scaled(10, 3);
        let figures = measure_launches(launches).await?;
        for (kind, description) in KINDS {
            let figure = format!("{FIGURE}, {description}: p50 / worst of {launches}");
            rows.push(match figures.get(kind) {
                Some(Figure::Ms { ms }) => {
                    let mut times: Vec<_> =
                        ms.iter().map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1e3)).collect();
                    let at = |times: &mut Vec<Duration>, q| quantile(times, q).as_secs_f64() * 1e3;
                    Row::informational(
                        "p",
                        figure,
                        format!("{:.0} / {:.0} ms", at(&mut times, 0.5), at(&mut times, 1.0)),
                        String::new(),
                    )
                }
                Some(Figure::Absent { absent }) => Row::unmeasured("p", figure, absent),
                None => Row::unmeasured("p", figure, "not measured"),
            });
        }
    }
    bundle_sizes(rows).await
}

/// The first missing requirement of the browser, if any.
fn missing_requirement() -> Option<&'static str> {
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| CHROMIUM.into());
    if !is_installed("node") {
        return Some("Node is not installed");
    }
    if !Path::new(&chromium).is_file() {
        return Some("Chromium is not installed");
    }
    let playwright = Path::new(ROOT).join("tests/e2e/node_modules/@playwright/test");
    if playwright.is_dir() { None } else { Some("Playwright is not installed (`make setup`)") }
}

/// Launches every kind `launches` times.
async fn measure_launches(launches: u64) -> Outcome<BTreeMap<String, Figure>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("frames.json");
    let mut browser = Command::new("node")
        .args(["node_modules/@playwright/test/cli.js", "test", "--config", "bench.config.ts"])
        .current_dir(Path::new(ROOT).join("tests/e2e"))
        .env("PORTCULLIS_BIN", BINARY)
        .env("FRAMES", &out)
        .env("FRAMES_LAUNCHES", launches.to_string())
        .stdin(Stdio::null())
        // Standard output is for the table.
        .stdout(std::io::stderr())
        .kill_on_drop(true)
        .spawn()?;
    let ended = timeout(RUN_TIMEOUT, browser.wait())
        .await
        .map_err(|_| fail("the browser did not end in time"))??;
    let output =
        std::fs::read(&out).map_err(|_| fail(format!("the browser wrote no figures: {ended}")))?;
    Ok(serde_json::from_slice(&output)?)
}

/// Sizes as reported by the pages' build.
async fn bundle_sizes(rows: &mut Vec<Row>) -> Outcome<()> {
    let output = if is_installed("node") {
        let output = Command::new("node")
            .args(["tools/size.mjs", "--tell"])
            .current_dir(Path::new(ROOT).join("static"))
            .output()
            .await?;
        String::from_utf8_lossy(&output.stdout).into_owned()
    } else {
        String::new()
    };
    for (kind, name, most) in BUNDLE_LIMITS {
        let figure = format!("JavaScript and WASM of the {kind} viewer, gzipped");
        let size = output.lines().find_map(|line| {
            line.strip_prefix(name)?.strip_prefix(": ")?.split(' ').next()?.parse::<f64>().ok()
        });
        rows.push(match size {
            Some(kib) => Row::absolute("p", figure, kib, "KiB", "", Threshold::AtMost(most)),
            None => {
                Row::unmeasured("p", figure, "the pages are not built, or Node is not installed")
            }
        });
    }
    Ok(())
}
