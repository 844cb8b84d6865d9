//! Logs on standard error: one JSON object per line, with the request's id, or readable lines for a
//! terminal.
//!
//! No secret is logged. Secrets are [`crate::domain::secret::Secret`]s, whose `Debug` is redacted;
//! the access log has the route's pattern and no query; and libraries that could print headers or
//! frames (see [`SENSITIVE_LIBRARIES`]) are limited to `info`, whatever the filter says.

use std::io;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{Directive, FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// For a terminal.
    Pretty,
}

pub const DEFAULT_FILTER: &str = "info";

/// Libraries whose debug messages contain headers, frames, queries or credentials of users.
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

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log filter {filter:?} cannot be read: {reason}")]
    Filter { filter: String, reason: String },
    #[error("logs were set up twice")]
    AlreadyInitialized,
}

/// Installs the process's subscriber, on standard error. `filter` is a list such as
/// `info,portcullis::tunnel=debug`.
///
/// # Errors
/// [`TelemetryError`] when the filter does not parse, or a subscriber is installed already.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    // Also bridges the `log` crate.
    subscriber(format, filter, io::stderr)?
        .try_init()
        .map_err(|_| TelemetryError::AlreadyInitialized)
}

/// The same, to any writer: for tests.
///
/// # Errors
/// [`TelemetryError::Filter`] when the filter does not parse.
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

/// Whether a message could contain a secret. The filter alone does not exclude that: it also
/// matches parts of a library's name and names of spans.
fn may_leak_secrets(target: &str, level: Level) -> bool {
    level > Level::INFO
        && SENSITIVE_LIBRARIES.iter().any(|name| {
            target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        })
}

fn parse_filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let text = if text.trim().is_empty() { DEFAULT_FILTER } else { text };
    let bad = |reason: String| TelemetryError::Filter { filter: text.to_owned(), reason };
    let mut filter = EnvFilter::try_new(text).map_err(|e| bad(e.to_string()))?;
    // Not more verbose than the filter's general level.
    let general = text
        .split(',')
        .find(|part| !part.contains('='))
        .and_then(|part| part.trim().parse().ok())
        .unwrap_or(LevelFilter::INFO);
    let cap = general.min(LevelFilter::INFO);
    for name in SENSITIVE_LIBRARIES {
        // Replaces a directive of the filter for the same target.
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
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, act: impl FnOnce()) -> Vec<serde_json::Value> {
        let lines = LogBuffer::default();
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
    fn a_line_is_json_with_the_request_id() {
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
    fn sensitive_libraries_are_limited_to_info() {
        let lines = logged("trace,h2=trace", || {
            tracing::trace!(target: "h2::frame", "authorization: Bearer x");
            tracing::debug!(target: "actix_http::h1", "cookie");
            tracing::trace!(target: "portcullis", "ours");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[test]
    fn a_bad_filter_is_reported() {
        assert!(parse_filter("info,==").unwrap_err().to_string().contains("info,=="));
    }
}
