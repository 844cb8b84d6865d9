//! Durations as people write and read them: `2h30m`, "2 hours 30 minutes".

use std::time::Duration;

/// Longest duration that is understood.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Units, longest first: letter, seconds, name.
const UNITS: [(char, u64, &str); 4] =
    [('d', 86_400, "day"), ('h', 3600, "hour"), ('m', 60, "minute"), ('s', 1, "second")];

/// Reads whole numbers with units, the longest first, each at most once: `30m`, `1h`, `2h30m`. `None`
/// for anything else, for zero, and for more than 30 days.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut seconds) = (text, 0_u64);
    for (letter, size, _) in UNITS {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some(tail) = rest.get(digits..).and_then(|tail| tail.strip_prefix(letter)) else {
            continue;
        };
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        seconds = number.checked_mul(size)?.checked_add(seconds)?;
        rest = tail;
    }
    let duration = Duration::from_secs(seconds);
    (rest.is_empty() && !duration.is_zero() && duration <= LONGEST).then_some(duration)
}

/// `2 hours 30 minutes`; whole seconds, rounded down.
#[must_use]
pub fn duration_in_words(duration: Duration) -> String {
    let mut left = duration.as_secs();
    let mut parts = Vec::new();
    for (_, size, name) in UNITS {
        let count = left / size;
        left %= size;
        if count > 0 {
            parts.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        }
    }
    if parts.is_empty() { "0 seconds".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("30m", 1800),
            ("1h", 3600),
            ("2h30m", 9000),
            ("90m", 5400),
            ("45s", 45),
            ("1d12h", 129_600),
            ("30d", 2_592_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "0",
            "0m",
            "0h0m",
            "30",
            "-30m",
            "+30m",
            "30 m",
            " 30m",
            "30m ",
            "30x",
            "30M",
            "m",
            "h30m",
            "30m1h",
            "30m30m",
            "1.5h",
            "1h-30m",
            "31d",
            "99999999999999999999m",
            "18446744073709551615d",
            "30mm",
            "٣٠m",
            "30m\n",
            "null",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn durations_are_named() {
        for (seconds, words) in [
            (1800, "30 minutes"),
            (3600, "1 hour"),
            (9000, "2 hours 30 minutes"),
            (60, "1 minute"),
            (90_061, "1 day 1 hour 1 minute 1 second"),
            (0, "0 seconds"),
        ] {
            assert_eq!(duration_in_words(Duration::from_secs(seconds)), words);
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in "[0-9dhms -]{0,12}|.{0,12}") {
            if let Some(duration) = parse_duration(&text) {
                prop_assert!(!duration.is_zero() && duration <= LONGEST);
            }
        }
    }
}
