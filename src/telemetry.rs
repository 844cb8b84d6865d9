//! Logs: one JSON object a line on standard error, with the request's id; or readable lines for a
//! person at a terminal.
//!
//! Nothing here prints a secret. Secrets are [`crate::domain::secret::Secret`]s, whose `Debug` is
//! redacted; the access line names a route's pattern and never a query; and the libraries that
//! could print headers or frames (see [`QUIET`]) are held to `info`, whatever filter is asked for.

use std::io;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{Directive, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For a person.
    Pretty,
}

/// What is logged when nothing is asked for.
pub const DEFAULT_FILTER: &str = "info";

/// Libraries whose debug lines hold headers, frames, queries or credentials of our users.
const SENSITIVE_LIBRARIES: [&str; 10] = [
    "actix_http",
    "actix_web",
    "actix_server",
    "h2",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "sspi",
    "tungstenite",
];

/// The logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("log filter {filter:?} cannot be read: {why}")]
    Filter {
        /// As written.
        filter: String,
        /// What is wrong.
        why: String,
    },
    /// Logs were set up before.
    #[error("logs were set up twice")]
    AlreadyInitialized,
}

/// Sets up logs for the process, on standard error. `filter` is a list such as
/// `info,portcullis::tunnel=debug`.
///
/// # Errors
/// [`TelemetryError`] when the filter cannot be read, or when logs were set up before.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    // Also bridges the libraries that speak `log`.
    subscriber(format, filter, io::stderr)?
        .try_init()
        .map_err(|_| TelemetryError::AlreadyInitialized)
}

/// The same, to any writer: for tests.
///
/// # Errors
/// [`TelemetryError::Filter`] when the filter cannot be read.
pub fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + 'static + use<W>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = parse_filter(filter)?;
    let lines = match format {
        Format::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(writer)
            .boxed(),
        Format::Pretty => tracing_subscriber::fmt::layer().compact().with_writer(writer).boxed(),
    };
    Ok(Registry::default().with(lines.with_filter(
        filter.and(filter_fn(|metadata| !may_leak_secrets(metadata.target(), *metadata.level()))),
    )))
}

/// Whether a line could hold what no line may hold. The filter alone could be talked into it, by a
/// part of a library's name or the name of a span.
fn may_leak_secrets(target: &str, level: Level) -> bool {
    level > Level::INFO
        && SENSITIVE_LIBRARIES.iter().any(|name| {
            target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
}

fn parse_filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let text = if text.trim().is_empty() { DEFAULT_FILTER } else { text };
    let bad = |why: String| TelemetryError::Filter { filter: text.to_owned(), why };
    let mut filter = EnvFilter::try_new(text).map_err(|e| bad(e.to_string()))?;
    // Never louder than what was asked for as a whole.
    let whole = text
        .split(',')
        .find(|part| !part.contains('='))
        .and_then(|part| part.trim().parse().ok())
        .unwrap_or(LevelFilter::INFO);
    let cap = whole.min(LevelFilter::INFO);
    for name in SENSITIVE_LIBRARIES {
        // A directive for the same target replaces the one asked for.
        let quiet: Directive = format!("{name}={cap}")
            .parse()
            .map_err(|e: tracing_subscriber::filter::ParseError| bad(e.to_string()))?;
        filter = filter.add_directive(quiet);
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, act: impl FnOnce()) -> Vec<serde_json::Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(Format::Json, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = lines.0.lock().unwrap();
        std::str::from_utf8(&bytes)
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }

    #[test]
    fn a_line_is_json_and_carries_its_request() {
        let lines = logged("info", || {
            let _in = tracing::info_span!("request", request_id = "r-1").entered();
            tracing::info!(status = 200, "request");
            tracing::debug!("not asked for");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["message"], "request");
        assert_eq!(lines[0]["status"], 200);
        assert_eq!(lines[0]["span"]["request_id"], "r-1");
    }

    #[test]
    fn libraries_that_print_headers_stay_quiet() {
        let lines = logged("trace,h2=trace", || {
            tracing::trace!(target: "h2::frame", "authorization: Bearer x");
            tracing::debug!(target: "actix_http::h1", "cookie");
            tracing::trace!(target: "portcullis", "ours");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[test]
    fn a_bad_filter_is_named() {
        assert!(parse_filter("info,==").unwrap_err().to_string().contains("info,=="));
    }
}
