//! Failures to load settings.

/// One sentence that names the key and its source.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("the configuration file {path} is not valid TOML: {reason}")]
    NotToml { path: String, reason: String },
    #[error("unknown setting {key} in {source_name}{hint}")]
    Unknown {
        /// `section.key`.
        key: String,
        /// File or environment variable.
        source_name: String,
        /// `; did you mean ...?`, or empty.
        hint: String,
    },
    /// The value has the wrong type.
    #[error("bad value for {key} in {source_name}: {reason}")]
    BadValue {
        /// `section.key`.
        key: String,
        /// File or environment variable.
        source_name: String,
        reason: String,
    },
    /// The values violate a rule.
    #[error("{0}")]
    Invalid(String),
}
