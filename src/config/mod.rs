//! The gateway's settings: what can be set, its default, and where a value may come from.
//!
//! Three layers, the later over the earlier: defaults, a TOML file, the environment
//! (`PORTCULLIS_SECTION__KEY`). An unknown key, a value of the wrong type and an invalid value are
//! refused, with the key's full name and where it was written.
//!
//! | file | content |
//! | --- | --- |
//! | [`settings`] | the settings and their defaults; `config/portcullis.toml` explains each |
//! | [`value`] | types of values: durations, database URLs, targets |
//! | [`layers`] | merging the layers, value by value, so that a bad value is reported with its source |
//! | [`check`] | rules for values, alone and together |

pub mod check;
pub mod error;
pub mod layers;
pub mod settings;
pub mod value;

pub use error::ConfigError;
pub use settings::{
    Agent, Apps, Auth, Config, Database, Direct, Limits, Log, Metrics, Server, Sessions, Tls,
    Tunnel,
};

use std::fmt;
use std::path::Path;
use value::{DatabaseUrl, DirectTarget, IsBlank};

impl Config {
    /// Merges file and environment over `base`, which is the defaults except for a demo.
    ///
    /// # Errors
    /// [`ConfigError`] with the key's full name and its source.
    pub fn load(
        base: Self,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let config = layers::merge(&base, file, environment)?;
        check::check(&config)?;
        Ok(config)
    }

    /// With additional services of the agent.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when they are too many, or two have one name.
    pub fn with_services(mut self, more: &[DirectTarget]) -> Result<Self, ConfigError> {
        self.agent.services.extend_from_slice(more);
        check::check(&self)?;
        Ok(self)
    }

    /// The database with a relative SQLite path resolved against `server.data_dir`.
    #[must_use]
    pub fn database_url(&self) -> DatabaseUrl {
        self.database.url.resolve_in(&self.server.data_dir)
    }

    /// The two PEM files of the web applications' certificate, when one is configured.
    #[must_use]
    pub fn apps_pem_files(&self) -> Option<(&Path, &Path)> {
        let (cert, key) = (self.apps.certificate.as_path(), self.apps.private_key.as_path());
        (!cert.is_blank() && !key.is_blank()).then_some((cert, key))
    }

    /// The two PEM files, when a certificate is configured.
    #[must_use]
    pub fn pem_files(&self) -> Option<(&Path, &Path)> {
        let (cert, key) = (self.tls.certificate.as_path(), self.tls.private_key.as_path());
        (!cert.is_blank() && !key.is_blank()).then_some((cert, key))
    }
}

impl fmt::Display for Config {
    /// As TOML, without the database's password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.clone();
        shown.database.url = DatabaseUrl::new(&self.database.url.to_string());
        for (section, keys) in layers::tree(&shown).map_err(|_| fmt::Error)? {
            writeln!(f, "[{section}]")?;
            for (key, value) in keys.as_object().into_iter().flatten() {
                // JSON strings, numbers, booleans and arrays of strings are valid TOML.
                writeln!(f, "{key} = {value}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
