//! Why settings cannot be used.

/// Why the settings cannot be used: one sentence, naming the key and where it was written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's words.
        why: String,
    },
    /// The file is not TOML.
    #[error("the configuration file {path} is not valid TOML: {why}")]
    NotToml {
        /// The file.
        path: String,
        /// The parser's words.
        why: String,
    },
    /// Nobody knows this key.
    #[error("unknown setting {key} in {source_name}{hint}")]
    Unknown {
        /// Full name.
        key: String,
        /// File or environment variable.
        source_name: String,
        /// `; did you mean ...?`, or empty.
        hint: String,
    },
    /// The value is of the wrong kind.
    #[error("bad value for {key} in {source_name}: {why}")]
    BadValue {
        /// Full name.
        key: String,
        /// File or environment variable.
        source_name: String,
        /// What was expected.
        why: String,
    },
    /// The values read, but cannot work.
    #[error("{0}")]
    Invalid(String),
}
