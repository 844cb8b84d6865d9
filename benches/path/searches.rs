//! (s) A request's authorization beside searches of a long audit log that match nothing. The whole
//! product runs, on SQLite, where a search takes the gateway's own CPU.

use std::path::Path;
use std::time::{Duration, Instant};

use portcullis::app::{keys, open};
use portcullis::auth::Vault;
use portcullis::config::Config;
use portcullis::domain::audit::{Action, Actor, Draft, EntryTarget, Outcome as AuditOutcome};
use portcullis::domain::{OrganizationId, Timestamp};
use tokio::task::JoinSet;

use crate::machine::{median, quantile};
use crate::product_testbed::ProductTestbed;
use crate::table::{Row, Threshold};
use crate::{Outcome, Settings, fail};

/// Searches at once, all of one administrator.
const SEARCHES: usize = 16;
/// Entries that one transaction writes.
const BATCH: u64 = 10_000;
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(5);

pub async fn measure(settings: &Settings, rows: &mut Vec<Row>) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let entries = settings.scaled(500_000, 50_000);
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let testbed = ProductTestbed::start_with(folder.path(), nobody, async |data: &Path| {
        fill_log(data, entries).await
    })
    .await?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        alone.push(latencies(&testbed, settings).await?);
        let mut searches = JoinSet::new();
        for n in 0..SEARCHES {
            let client = testbed.requests();
            searches.spawn(async move {
                for round in 0_u64.. {
                    let path = format!("/api/audit?limit=50&q=zzznothere{n}x{round}");
                    if let Err(failed) = client.get(&path).await {
                        return failed.to_string();
                    }
                }
                String::new()
            });
        }
        beside.push(latencies(&testbed, settings).await?);
        if let Some(ended) = searches.try_join_next() {
            return Err(fail(format!("a search failed: {}", ended?)));
        }
    }
    let p = |runs: &[(Duration, Duration)], pick: fn(&(Duration, Duration)) -> Duration| {
        median(runs.iter().map(|run| pick(run).as_secs_f64() * 1000.0).collect())
    };
    let (p50, p99) = (p(&beside, |run| run.0), p(&beside, |run| run.1));
    let (alone_p50, alone_p99) = (p(&alone, |run| run.0), p(&alone, |run| run.1));
    rows.push(Row::relative(
        "s",
        format!("GET /api/auth/me beside {SEARCHES} searches of {entries} audit entries that match nothing (SQLite), p50 / p99"),
        format!("{p50:.2} / {p99:.2} ms"),
        format!("alone: {alone_p50:.2} / {alone_p99:.2} ms"),
        p99 / alone_p99,
        Threshold::AtMost(2.0),
    ));
    Ok(())
}

/// A signed-in administrator.
pub struct Requests {
    pub client: reqwest::Client,
    pub port: u16,
    pub token: String,
}

impl Requests {
    /// A request, again and again while the gateway asks to wait.
    pub async fn get(&self, path: &str) -> Outcome<()> {
        loop {
            let url = format!("https://localhost:{}{path}", self.port);
            let answer = self.client.get(url).bearer_auth(&self.token).send().await?;
            let status = answer.status();
            answer.bytes().await?;
            if status == reqwest::StatusCode::TOO_MANY_REQUESTS {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            return if status.is_success() {
                Ok(())
            } else {
                Err(fail(format!("{path}: {status}")))
            };
        }
    }
}

/// p50 and p99 of a member's requests, one after the other.
async fn latencies(testbed: &ProductTestbed, settings: &Settings) -> Outcome<(Duration, Duration)> {
    let client = testbed.requests();
    let mut times = Vec::new();
    for _ in 0..settings.scaled(2000, 400) {
        let began = Instant::now();
        client.get("/api/auth/me").await?;
        times.push(began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok((quantile(&mut times, 0.5), quantile(&mut times, 0.99)))
}

/// Appends to the log of a gateway that does not run.
async fn fill_log(data: &Path, entries: u64) -> Outcome<()> {
    let mut config = Config::default();
    config.server.data_dir = data.to_owned();
    let vault = Vault::from_master_key(*keys::load(data).map_err(|e| fail(e.to_string()))?.master);
    let store = open::store(&config, &vault).await.map_err(|e| fail(e.to_string()))?;
    let organization = store
        .read(|tx| tx.first_organization())
        .await
        .map_err(|e| fail(e.to_string()))?
        .ok_or_else(|| fail("no organization"))?
        .0;
    for first in (0..entries).step_by(BATCH as usize) {
        let drafts: Vec<Draft> =
            (first..entries.min(first + BATCH)).map(|n| draft(organization, n)).collect();
        store
            .write(move |tx| tx.append_audit_entries(drafts.clone()).map(drop))
            .await
            .map_err(|e| fail(e.to_string()))?;
    }
    Ok(())
}

fn draft(organization: OrganizationId, n: u64) -> Draft {
    Draft {
        time: Timestamp(1_700_000_000_000 + i64::try_from(n).unwrap_or(0) * 1000),
        organization_id: Some(organization),
        actor: Actor { email: Some(format!("user-{}@example.test", n % 2000)), ..Actor::default() },
        action: Action::Login,
        target: EntryTarget {
            kind: Some("login".to_owned()),
            id: Some(format!("{n:032x}")),
            name: Some("Sign-in".to_owned()),
        },
        outcome: AuditOutcome::Success,
        reason: None,
        source_ip: Some(format!("192.0.2.{}", n % 250)),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64)".to_owned()),
        session_id: None,
        workspace_id: None,
        request_id: Some(format!("{n:032x}")),
        details: serde_json::Map::new(),
    }
}
