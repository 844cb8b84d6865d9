//! `make bench`: measures the data path and comparable programs, and writes one table.
//!
//! ```text
//! cargo bench --bench path -- [--quick] [--only LINES] [--write FILE]
//! ```
//! `LINES` are letters of the table, such as `acg`. `--write` puts the table into a document,
//! between its markers. A program that is not installed is named in its line. Everything runs on
//! loopback; processes and network namespaces are removed at the end.

mod baselines;
mod browser;
mod connections;
mod desktop;
mod first_frame;
mod machine;
mod null_audit_sink;
mod processes;
mod product_testbed;
mod rdp;
mod rfb_filter;
mod scenarios;
mod searches;
mod table;
mod testbed;
mod tunnel;
mod wakeups;
mod web;
mod webload;

use std::error::Error;
use std::path::PathBuf;

use portcullis::tunnel::MTU_MAX;
use table::Row;
use testbed::Testbed;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// An error with this message.
pub fn fail(message: impl Into<String>) -> Box<dyn Error + Send + Sync> {
    message.into().into()
}

/// Command line options.
pub struct Settings {
    quick: bool,
    only: Option<String>,
    write: Option<PathBuf>,
    rounds: usize,
}

impl Settings {
    fn includes(&self, line: char) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(line))
    }

    /// `full`, or `quick` with `--quick`.
    fn scaled(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }
}

fn main() -> Outcome<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Child processes inherit the limit.
    let files = machine::raise_open_file_limit(65_536);
    let mut arguments = std::env::args().skip(1);
    let mut settings = Settings { quick: false, only: None, write: None, rounds: 3 };
    // As many threads as the product has.
    let threads = if std::env::args().nth(1).is_some_and(|role| role == "agent") {
        portcullis::tunnel::worker_threads()
    } else {
        2
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    while let Some(argument) = arguments.next() {
        let mut next = || arguments.next().ok_or_else(|| fail("an argument is missing"));
        match argument.as_str() {
            "agent" => return runtime.block_on(processes::agent(next()?.parse()?)),
            "gateway" => {
                let (agent, workers) = (next()?.parse()?, next()?.parse()?);
                return actix_web::rt::System::with_tokio_rt(move || runtime)
                    .block_on(processes::gateway(agent, workers));
            }
            "application" => return runtime.block_on(webload::application()),
            "load" => {
                return runtime.block_on(webload::from_arguments(&arguments.collect::<Vec<_>>()));
            }
            // The tunnel alone, for a profiler: GiB to send, and the largest packet in bytes.
            "stream" => {
                let gib: u64 = next()?.parse()?;
                let mtu_max = arguments.next().map_or(Ok(MTU_MAX), |mtu| mtu.parse())?;
                let speed = tunnel::stream_speed(gib << 30, mtu_max)?;
                println!("{speed:?}");
                return Ok(());
            }
            "--quick" => (settings.quick, settings.rounds) = (true, 1),
            "--only" => settings.only = Some(next()?),
            "--write" => settings.write = Some(next()?.into()),
            // cargo adds this.
            "--bench" => {}
            other => return Err(fail(format!("unknown argument {other:?}"))),
        }
    }
    runtime.block_on(measure(settings, files))
}

/// Adds a row that says so for a line that could not be measured.
fn push_or_report(rows: &mut Vec<Row>, line: &'static str, outcome: Outcome<()>) {
    if let Err(error) = outcome {
        eprintln!("  {line}: {error}");
        rows.push(Row::unmeasured(line, "could not be measured", error.to_string()));
    }
}

async fn measure(settings: Settings, files: u64) -> Outcome<()> {
    let before = machine::load_average();
    let mut rows = Vec::new();
    let speed = if settings.includes('a') || settings.includes('b') {
        Some(tunnel::measure(&settings, &mut rows).await?)
    } else {
        None
    };
    if let Some(speed) = speed.filter(|_| settings.includes('b')) {
        let outcome = baselines::throughput(&settings, speed, &mut rows).await;
        push_or_report(&mut rows, "b", outcome);
    }
    if "cdeghv".chars().any(|line| settings.includes(line)) {
        let mut testbed = Testbed::start().await?;
        if settings.includes('c') || settings.includes('d') {
            let outcome = scenarios::round_trips(&settings, &mut testbed, &mut rows).await;
            push_or_report(&mut rows, "c", outcome);
        }
        if settings.includes('e') {
            let outcome = baselines::bulk(&settings, &mut testbed, &mut rows).await;
            push_or_report(&mut rows, "e", outcome);
        }
        if settings.includes('g') {
            let outcome = scenarios::session_setup(&settings, &mut testbed, &mut rows).await;
            push_or_report(&mut rows, "g", outcome);
        }
        if settings.includes('h') {
            let outcome = scenarios::flood(&settings, &mut testbed, &mut rows).await;
            push_or_report(&mut rows, "h", outcome);
        }
        if settings.includes('v') {
            let outcome = rfb_filter::measure(&settings, &mut testbed, &mut rows).await;
            push_or_report(&mut rows, "v", outcome);
        }
        testbed.shutdown().await;
    }
    if settings.includes('f') {
        let outcome = scenarios::memory(&settings, &mut rows).await;
        push_or_report(&mut rows, "f", outcome);
    }
    if settings.includes('k') {
        let outcome = connections::measure(&settings, &mut rows).await;
        push_or_report(&mut rows, "k", outcome);
    }
    if settings.includes('r') {
        let outcome = rdp::measure(&settings, &mut rows).await;
        push_or_report(&mut rows, "r", outcome);
    }
    if settings.includes('p') {
        let outcome = first_frame::measure(&settings, &mut rows).await;
        push_or_report(&mut rows, "p", outcome);
    }
    if settings.includes('s') {
        let outcome = searches::measure(&settings, &mut rows).await;
        push_or_report(&mut rows, "s", outcome);
    }
    if settings.includes('w') {
        let outcome = web::measure(&settings, &mut rows).await;
        push_or_report(&mut rows, "w", outcome);
    }
    rows.sort_by_key(|row: &Row| row.line);
    let about = [
        format!(
            "Machine: {}; open files: {files}; {} build.",
            machine::description(),
            if cfg!(debug_assertions) { "debug" } else { "release" }
        ),
        format!(
            "Load average before and after (1, 5, 15 minutes): {before}; {}.",
            machine::load_average()
        ),
    ];
    let table = table::markdown(&rows, &about);
    println!("{table}");
    if let Some(path) = &settings.write {
        table::write(path, &table)?;
    }
    Ok(())
}
