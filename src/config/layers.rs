//! Merging the layers one value at a time, so that a bad value is reported with its key and source.

use super::error::ConfigError;
use super::settings::Config;
use serde_json::{Map, Value};
use std::path::Path;

/// Prefix of environment variables that are settings.
const PREFIX: &str = "PORTCULLIS_";
/// Separates section and key in an environment variable.
const SEPARATOR: &str = "__";
/// Variables with the prefix that are options of the command line.
const NOT_SETTINGS: [&str; 3] = ["PORTCULLIS_CONFIG", "PORTCULLIS_JOIN", "PORTCULLIS_PASSWORD"];

/// A value from one of the layers.
struct Setting {
    section: String,
    key: String,
    value: RawValue,
    source_name: String,
}

enum RawValue {
    Typed(Value),
    /// From the environment; the default determines the type.
    Text(String),
}

pub(super) fn merge(
    base: &Config,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut settings = match file {
        Some(path) => from_file(path)?,
        None => Vec::new(),
    };
    settings.extend(from_environment(environment)?);
    let mut tree = tree(base)?;
    for setting in settings {
        set(&mut tree, setting)?;
    }
    read(&tree).map_err(ConfigError::Invalid)
}

/// Every `section.key` with its value.
pub(super) fn tree(config: &Config) -> Result<Map<String, Value>, ConfigError> {
    match serde_json::to_value(config) {
        Ok(Value::Object(tree)) => Ok(tree),
        _ => Err(ConfigError::Invalid("the settings cannot be written".into())),
    }
}

fn read(tree: &Map<String, Value>) -> Result<Config, String> {
    serde_json::from_value(Value::Object(tree.clone())).map_err(|e| e.to_string())
}

fn set(tree: &mut Map<String, Value>, setting: Setting) -> Result<(), ConfigError> {
    let Setting { section, key, value, source_name } = setting;
    let name = if key.is_empty() { section.clone() } else { format!("{section}.{key}") };
    let Some(slot) = tree.get_mut(&section).and_then(|s| s.get_mut(&key)) else {
        let hint = nearest(tree, &name)
            .map_or_else(String::new, |known| format!("; did you mean {known}?"));
        return Err(ConfigError::Unknown { key: name, source_name, hint });
    };
    let bad = |reason: String| ConfigError::BadValue {
        key: name.clone(),
        source_name: source_name.clone(),
        reason,
    };
    *slot = match value {
        RawValue::Typed(value) => value,
        RawValue::Text(text) => parse_like(slot, &text).map_err(bad)?,
    };
    // All earlier values were valid, so a failure is due to this one.
    read(tree).map(|_| ()).map_err(bad)
}

/// The text as a value of the same type as `model`.
fn parse_like(model: &Value, text: &str) -> Result<Value, String> {
    match model {
        Value::Bool(_) => text
            .parse()
            .map(Value::Bool)
            .map_err(|_| format!("expected true or false, found \"{text}\"")),
        Value::Number(_) => text
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| format!("expected a whole number, found \"{text}\"")),
        Value::Array(_) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(Value::from)
            .collect()),
        Value::String(_) | Value::Null | Value::Object(_) => Ok(Value::from(text)),
    }
}

fn from_environment(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Setting>, ConfigError> {
    let mut found: Vec<(String, String)> =
        environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    found.sort();
    found
        .into_iter()
        .filter(|(name, _)| !NOT_SETTINGS.contains(&name.as_str()))
        .map(|(name, value)| {
            let Some((section, key)) = name[PREFIX.len()..].split_once(SEPARATOR) else {
                let hint = "; settings are PORTCULLIS_SECTION__KEY, with two underscores between section and key".to_owned();
                return Err(ConfigError::Unknown { key: name.clone(), source_name: "the environment".into(), hint });
            };
            let source_name = format!("the environment variable {name}");
            Ok(Setting { section: section.to_lowercase(), key: key.to_lowercase(), value: RawValue::Text(value), source_name })
        })
        .collect()
}

fn from_file(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError::Unreadable { path: shown.clone(), reason: e.to_string() })?;
    let table = config::Config::builder()
        .add_source(config::File::from_str(&text, config::FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize::<Map<String, Value>>)
        .map_err(|e| ConfigError::NotToml { path: shown.clone(), reason: e.to_string() })?;
    let mut settings = Vec::new();
    for (section, keys) in table {
        let Value::Object(keys) = keys else {
            settings.push(Setting {
                section,
                key: String::new(),
                value: RawValue::Typed(keys),
                source_name: shown.clone(),
            });
            continue;
        };
        settings.extend(keys.into_iter().map(|(key, value)| Setting {
            section: section.clone(),
            key,
            value: RawValue::Typed(value),
            source_name: shown.clone(),
        }));
    }
    Ok(settings)
}

/// The known name closest to `name`, if it is close enough to be a typing error.
fn nearest(tree: &Map<String, Value>, name: &str) -> Option<String> {
    let known = tree.iter().flat_map(|(section, keys)| {
        keys.as_object().into_iter().flatten().map(move |(key, _)| format!("{section}.{key}"))
    });
    known.map(|k| (distance(&k, name), k)).filter(|(d, _)| *d <= 3).min().map(|(_, k)| k)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let here = row[j + 1];
            row[j + 1] = (before + usize::from(x != *y)).min(here + 1).min(row[j] + 1);
            before = here;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn refusal(toml: &str, pairs: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.toml");
        std::fs::write(&file, toml).unwrap();
        Config::load(Config::default(), Some(&file), env(pairs))
            .unwrap_err()
            .to_string()
            .replace(&file.display().to_string(), "p.toml")
    }

    #[test]
    fn later_layers_win() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.toml");
        std::fs::write(
            &file,
            "[sessions]\nmax_viewers = 2\ngrace = \"5m\"\n[auth]\nmfa_required = false\n",
        )
        .unwrap();
        let config = Config::load(
            Config::default(),
            Some(&file),
            env(&[
                ("PORTCULLIS_SESSIONS__GRACE", "1m"),
                ("PORTCULLIS_TLS__NAMES", "a.example, b.example"),
                ("HOME", "/x"),
                ("PORTCULLIS_CONFIG", "p"),
            ]),
        )
        .unwrap();
        assert_eq!(config.sessions.max_viewers, 2);
        assert_eq!(config.sessions.grace.to_string(), "1m");
        assert_eq!(config.tls.names, ["a.example", "b.example"]);
        assert!(!config.auth.mfa_required);
        assert_eq!(config.server, Config::default().server);
    }

    #[test]
    fn a_bad_key_or_value_is_reported_with_its_source() {
        assert_eq!(
            refusal("[server]\nlisten_on = \"x\"\n", &[]),
            "unknown setting server.listen_on in p.toml; did you mean server.listen?"
        );
        assert_eq!(refusal("[colour]\nx = 1\n", &[]), "unknown setting colour.x in p.toml");
        assert_eq!(refusal("listen = 1\n", &[]), "unknown setting listen in p.toml");
        assert!(
            refusal("[server]\nlisten = 8443\n", &[])
                .starts_with("bad value for server.listen in p.toml: ")
        );
        assert!(
            refusal("[sessions]\ngrace = \"soon\"\n", &[])
                .contains("sessions.grace in p.toml: \"soon\" is not a span of time")
        );
        assert!(
            refusal("[sessions]\nmax_viewers = -1\n", &[])
                .starts_with("bad value for sessions.max_viewers in p.toml: ")
        );
        assert!(
            refusal("[server\n", &[])
                .starts_with("the configuration file p.toml is not valid TOML: ")
        );
        let variable = refusal("", &[("PORTCULLIS_AUTH__MFA_REQUIRED", "maybe")]);
        assert_eq!(
            variable,
            "bad value for auth.mfa_required in the environment variable PORTCULLIS_AUTH__MFA_REQUIRED: expected true or false, found \"maybe\""
        );
        assert!(
            refusal("", &[("PORTCULLIS_SERVER_LISTEN", "x")])
                .starts_with("unknown setting PORTCULLIS_SERVER_LISTEN in the environment; ")
        );
        assert!(
            !refusal("", &[("PORTCULLIS_DATABASE__URL", "mysql://u:hunter2@h/d")])
                .contains("hunter2")
        );
    }

    #[test]
    fn the_annotated_file_shows_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/portcullis.toml");
        assert_eq!(
            Config::load(Config::default(), Some(&path), env(&[])).unwrap(),
            Config::default()
        );
        let shown: Vec<String> = from_file(&path)
            .unwrap()
            .into_iter()
            .map(|s| format!("{}.{}", s.section, s.key))
            .collect();
        for (section, keys) in tree(&Config::default()).unwrap() {
            for key in keys.as_object().unwrap().keys() {
                assert!(
                    shown.contains(&format!("{section}.{key}")),
                    "config/portcullis.toml does not show {section}.{key}"
                );
            }
        }
    }

    #[test]
    fn the_printed_settings_can_be_loaded_and_lack_the_password() {
        let mut config = Config::default();
        config.database.url = "postgres://u:hunter2@h/d".parse().unwrap();
        config.tls.names = vec!["a \"quoted\" name".into()];
        let shown = config.to_string();
        assert!(!shown.contains("hunter2"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.toml");
        std::fs::write(&file, &shown).unwrap();
        let back = Config::load(Config::default(), Some(&file), env(&[])).unwrap();
        assert_eq!((back.tls, back.agent), (config.tls, config.agent));
    }

    #[test]
    fn a_missing_file_is_reported() {
        let message =
            Config::load(Config::default(), Some(Path::new("/nonexistent/p.toml")), env(&[]))
                .unwrap_err()
                .to_string();
        assert!(
            message.starts_with("cannot read the configuration file /nonexistent/p.toml: "),
            "{message}"
        );
    }
}
