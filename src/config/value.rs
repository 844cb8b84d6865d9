//! Types of values in the settings.

use crate::domain::destination::{NoDestination, no_destination};
use crate::domain::rate_limit::Quota;
use crate::domain::route::is_target_name;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// A duration, written as a whole number and a unit: `500ms`, `30s`, `10m`, `12h`, `7d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DurationSetting(pub Duration);

impl DurationSetting {
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
    #[must_use]
    pub const fn minutes(n: u64) -> Self {
        Self::secs(n * 60)
    }
    #[must_use]
    pub const fn hours(n: u64) -> Self {
        Self::minutes(n * 60)
    }
    #[must_use]
    pub const fn days(n: u64) -> Self {
        Self::hours(n * 24)
    }
}

/// Units and their milliseconds, longest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl fmt::Display for DurationSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, size) = UNITS
            .into_iter()
            .find(|&(_, size)| ms >= size && ms.is_multiple_of(size))
            .unwrap_or(("s", 1000));
        write!(f, "{}{unit}", ms / size)
    }
}

impl FromStr for DurationSetting {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "\"{text}\" is not a span of time; write a whole number and a unit, such as 500ms, 30s, 10m, 12h or 7d"
            )
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let size = UNITS
            .into_iter()
            .find(|&(name, _)| name == unit)
            .map(|(_, size)| size)
            .ok_or_else(bad)?;
        let number: u64 = number.parse().map_err(|_| bad())?;
        Ok(Self(Duration::from_millis(number.checked_mul(size).ok_or_else(bad)?)))
    }
}

/// A limit, written `10 then 30s`: ten at once, then one in each 30 seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuotaSetting {
    pub burst: u32,
    pub interval: DurationSetting,
}

impl QuotaSetting {
    #[must_use]
    pub const fn new(burst: u32, interval: DurationSetting) -> Self {
        Self { burst, interval }
    }

    #[must_use]
    pub fn quota(self) -> Quota {
        Quota { burst: self.burst, interval: self.interval.0 }
    }
}

impl fmt::Display for QuotaSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} then {}", self.burst, self.interval)
    }
}

impl FromStr for QuotaSetting {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "\"{text}\" is not a limit; write how many at once, then the time for each further one, such as \"10 then 30s\""
            )
        };
        let (burst, interval) = text.split_once(" then ").ok_or_else(bad)?;
        let burst = burst.trim().parse().map_err(|_| bad())?;
        let interval: DurationSetting = interval.trim().parse().map_err(|_| bad())?;
        let interval_range = DurationSetting(Duration::from_millis(1))..=DurationSetting::days(1);
        if (1..=1_000_000).contains(&burst) && interval_range.contains(&interval) {
            Ok(Self { burst, interval })
        } else {
            Err(format!("\"{text}\" must be 1 to 1000000 at once, then one in 1ms to 1d"))
        }
    }
}

/// `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/NAME`. Printed without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Without validation; [`FromStr`] validates.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text including the password: only for opening the database.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The file, when it is SQLite.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        self.0.strip_prefix("sqlite:").map(Path::new)
    }

    /// With a relative SQLite path resolved against `dir`.
    #[must_use]
    pub fn resolve_in(&self, dir: &Path) -> Self {
        match self.sqlite_path() {
            Some(path) if path.is_relative() => {
                Self(format!("sqlite:{}", dir.join(path).display()))
            }
            _ => self.clone(),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str(&self.0);
        };
        // The last `@` before the path ends the credentials. Options are omitted, since they may
        // hold a password, too.
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        match rest.rsplit_once('@') {
            Some((_, location)) => write!(f, "{scheme}://***@{location}"),
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let sqlite = text
            .strip_prefix("sqlite:")
            .is_some_and(|path| !path.is_empty() && !path.starts_with("//"));
        let postgres = ["postgres://", "postgresql://"]
            .iter()
            .any(|p| text.strip_prefix(p).is_some_and(|rest| !rest.is_empty()));
        // The message does not repeat the text, which may hold a password.
        if sqlite || postgres {
            Ok(Self::new(text))
        } else {
            Err("a database is sqlite:PATH or postgres://USER:PASSWORD@HOST/NAME".into())
        }
    }
}

/// A named server, written `NAME=HOST:PORT`, reachable without a tunnel (`direct.allow`) or through
/// a host (`agent.services`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectTarget {
    pub name: String,
    /// `host:port`.
    pub address: String,
}

impl fmt::Display for DirectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.address)
    }
}

/// What keeps an address, with or without brackets, from ever being a machine's; `None` for a name.
pub(super) fn never_a_host(host: &str) -> Option<&'static str> {
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match no_destination(host.parse().ok()?)? {
        NoDestination::Never(why) => Some(why),
        NoDestination::Local(_) => None,
    }
}

impl FromStr for DirectTarget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "\"{text}\" is not a name and an address; write NAME=HOST:PORT, such as old-box=192.0.2.7:5900, the name in lower-case letters, digits and hyphens"
            )
        };
        let (name, target) = text.split_once('=').ok_or_else(bad)?;
        let (host, port) = target.rsplit_once(':').ok_or_else(bad)?;
        let plain = !host.is_empty()
            && host.len() <= 253
            && !host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/' || c == '@');
        if !is_target_name(name) || !plain || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(bad());
        }
        if let Some(why) = never_a_host(host) {
            return Err(format!("\"{text}\" names no machine: {host} {why}"));
        }
        Ok(Self { name: name.to_owned(), address: target.to_owned() })
    }
}

macro_rules! as_text {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(DurationSetting, DatabaseUrl, DirectTarget, QuotaSetting);

/// Whether a value is empty, which means "none".
pub trait IsBlank {
    fn is_blank(&self) -> bool;
}

impl IsBlank for Path {
    fn is_blank(&self) -> bool {
        self.as_os_str().is_empty()
    }
}

impl IsBlank for PathBuf {
    fn is_blank(&self) -> bool {
        self.as_path().is_blank()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_and_print() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            let duration: DurationSetting = text.parse().unwrap();
            assert_eq!(duration.0, Duration::from_millis(ms), "{text}");
            assert_eq!(duration.to_string(), text);
        }
        assert_eq!("90s".parse::<DurationSetting>().unwrap().to_string(), "90s");
        for bad in
            ["", "10", "s", "-1s", "1.5h", "10 s", "99999999999999999999d", "9999999999999999d"]
        {
            assert!(bad.parse::<DurationSetting>().is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_parse_and_print() {
        for (text, burst, ms) in [
            ("10 then 30s", 10, 30_000),
            ("1 then 1ms", 1, 1),
            ("1000000 then 1d", 1_000_000, 86_400_000),
        ] {
            let limit: QuotaSetting = text.parse().unwrap();
            assert_eq!(limit.quota(), Quota { burst, interval: Duration::from_millis(ms) });
            assert_eq!(limit.to_string(), text);
        }
        for bad in [
            "",
            "10",
            "10 then",
            "then 30s",
            "0 then 30s",
            "10 then 0s",
            "10 then 2d",
            "1000001 then 1s",
            "-1 then 1s",
            "10 per 30s",
        ] {
            assert!(bad.parse::<QuotaSetting>().is_err(), "{bad}");
        }
    }

    #[test]
    fn direct_targets_have_a_name_and_an_address() {
        for good in ["old-box=192.0.2.7:5900", "a=[2001:db8::1]:1", "b=desk.example:65535"] {
            assert_eq!(good.parse::<DirectTarget>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "192.0.2.7:5900",
            "A=h:1",
            "a=h",
            "a=h:0",
            "a=:5900",
            "a=h:99999",
            "a b=h:1",
            "a=h /x:1",
        ] {
            assert!(bad.parse::<DirectTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn database_urls_hide_their_password() {
        let url: DatabaseUrl =
            "postgres://me:p@ss@db.internal/portcullis?password=x".parse().unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "postgres://***@db.internal/portcullis postgres://***@db.internal/portcullis"
        );
        let file: DatabaseUrl = "sqlite:data.db".parse().unwrap();
        assert_eq!(file.resolve_in(Path::new("/srv/p")).expose(), "sqlite:/srv/p/data.db");
        let absolute: DatabaseUrl = "sqlite:/a/b.db".parse().unwrap();
        assert_eq!(absolute.resolve_in(Path::new("/srv/p")).expose(), "sqlite:/a/b.db");
        for bad in ["", "sqlite:", "sqlite:///x", "mysql://x", "data.db", "postgres://"] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad}");
        }
    }
}
