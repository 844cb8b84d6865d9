//! The table: our figure, the baseline's, the ratio, the target, and whether it is met.

use std::fmt::Write as _;

/// The lines of the document between which the table is written.
const MARKERS: (&str, &str) = ("<!-- bench:begin -->\n", "<!-- bench:end -->\n");

pub struct Row {
    pub line: &'static str,
    pub figure: String,
    pub ours: String,
    pub peer: String,
    pub ratio: String,
    pub threshold: String,
    /// `None`: nothing to compare with, or not measured; the reason is in `peer`.
    pub pass: Option<bool>,
}

impl Row {
    /// A figure compared with a baseline's: `ratio` is ours over theirs.
    pub fn relative(
        line: &'static str,
        figure: impl Into<String>,
        ours: String,
        peer: String,
        ratio: f64,
        target: Threshold,
    ) -> Self {
        let pass = target.is_met(ratio);
        Self {
            line,
            figure: figure.into(),
            ours,
            peer,
            ratio: format!("{ratio:.2}x"),
            threshold: target.describe("x"),
            pass: Some(pass),
        }
    }

    /// A figure with an absolute threshold.
    pub fn absolute(
        line: &'static str,
        figure: impl Into<String>,
        value: f64,
        unit: &str,
        peer: impl Into<String>,
        target: Threshold,
    ) -> Self {
        let pass = target.is_met(value);
        let ours = format!("{value:.3} {unit}");
        Self {
            line,
            figure: figure.into(),
            ours,
            peer: peer.into(),
            ratio: "-".into(),
            threshold: target.describe(&format!(" {unit}")),
            pass: Some(pass),
        }
    }

    /// A figure without a threshold.
    pub fn informational(
        line: &'static str,
        figure: impl Into<String>,
        ours: String,
        peer: String,
    ) -> Self {
        Self {
            line,
            figure: figure.into(),
            ours,
            peer,
            ratio: "-".into(),
            threshold: "-".into(),
            pass: None,
        }
    }

    pub fn unmeasured(
        line: &'static str,
        figure: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            line,
            figure: figure.into(),
            ours: "-".into(),
            peer: why.into(),
            ratio: "-".into(),
            threshold: "-".into(),
            pass: None,
        }
    }
}

#[derive(Clone, Copy)]
pub enum Threshold {
    AtMost(f64),
    AtLeast(f64),
}

impl Threshold {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn describe(self, unit: &str) -> String {
        match self {
            Self::AtMost(limit) => format!("at most {limit}{unit}"),
            Self::AtLeast(limit) => format!("at least {limit}{unit}"),
        }
    }
}

/// The table in Markdown.
pub fn markdown(rows: &[Row], machine: &[String]) -> String {
    let mut text = String::new();
    for line in machine {
        let _ = writeln!(text, "{line}  ");
    }
    text.push_str("\n| | figure | ours | peer | ratio | target | |\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for row in rows {
        let result = match row.pass {
            Some(true) => "pass",
            Some(false) => "**miss**",
            None => "",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {result} |",
            row.line, row.figure, row.ours, row.peer, row.ratio, row.threshold
        );
    }
    text
}

/// Writes the table into the document, between its markers.
pub fn write(path: &std::path::Path, table: &str) -> std::io::Result<()> {
    let text = std::fs::read_to_string(path)?;
    let marked = text
        .split_once(MARKERS.0)
        .and_then(|(before, rest)| rest.split_once(MARKERS.1).map(|(_, after)| (before, after)));
    let Some((before, after)) = marked else {
        return Err(std::io::Error::other(format!(
            "{} has no place for the table",
            path.display()
        )));
    };
    std::fs::write(path, format!("{before}{}{table}{}{after}", MARKERS.0, MARKERS.1))
}
