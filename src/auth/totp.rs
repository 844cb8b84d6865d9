//! The second factor: time-based one-time codes (RFC 6238): SHA-1, six digits, steps of 30 seconds,
//! one step of clock skew in either direction.
//!
//! | term | meaning |
//! | --- | --- |
//! | secret | 160 random bits (RFC 4226 section 4), shown as base32 |
//! | step | unix time divided by 30 s; the store keeps the last used one, so that a code works once (RFC 6238 section 5.2) |

use super::random::random_bytes;
use crate::domain::secret::SecretString;
use crate::domain::{Error, Result, Timestamp};
use data_encoding::BASE32_NOPAD;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use totp_rs::{Algorithm, Builder, Totp};

pub const DIGITS: u8 = 6;
/// Seconds of a step.
pub const PERIOD: u64 = 30;
/// Accepted clock skew in either direction, in steps.
const SKEW_STEPS: i64 = 1;

/// A new secret, base32.
#[must_use]
pub fn new_secret() -> SecretString {
    let bytes: zeroize::Zeroizing<[u8; 20]> = zeroize::Zeroizing::new(random_bytes());
    SecretString::new(BASE32_NOPAD.encode(&*bytes))
}

/// The step of `now`.
#[must_use]
pub fn step_of(now: Timestamp) -> i64 {
    now.unix_seconds().div_euclid(PERIOD.cast_signed())
}

fn build(secret: &SecretString, labels: Option<(&str, &str)>) -> Result<Totp> {
    let text = zeroize::Zeroizing::new(secret.expose().trim_end_matches('=').to_ascii_uppercase());
    let bytes = BASE32_NOPAD
        .decode(text.as_bytes())
        .map_err(|_| Error::invalid("The secret is not base32."))?;
    let mut builder = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_skew(0)
        .with_step_duration(PERIOD)
        .with_secret(bytes);
    if let Some((issuer, account)) = labels {
        // The label is "issuer:account": neither may contain a colon.
        builder = builder
            .with_issuer(Some(issuer.replace(':', " ")))
            .with_account_name(account.replace(':', " "));
    }
    builder.build().map_err(|_| Error::invalid("The secret needs at least 128 bits."))
}

/// Checks that a text is a usable secret: base32 of at least 128 bits.
///
/// # Errors
/// `Invalid`, saying what is wrong.
pub fn validate_secret(secret: &SecretString) -> Result<()> {
    build(secret, None).map(|_| ())
}

/// The step around `now` whose code this is, if there is one. White space in the code is ignored.
///
/// Every step of the window is compared, each in constant time, so that the elapsed time does not
/// reveal which one matches.
#[must_use]
pub fn matching_step(secret: &SecretString, code: &str, now: Timestamp) -> Option<i64> {
    let totp = build(secret, None).ok()?;
    let code: String =
        code.chars().filter(|c| !c.is_whitespace()).take(DIGITS as usize + 1).collect();
    let present = step_of(now);
    let mut matching = None;
    for step in present - SKEW_STEPS..=present + SKEW_STEPS {
        let seconds = u64::try_from(step).ok()?.checked_mul(PERIOD)?;
        if totp.check(&code, seconds).is_some() {
            matching = Some(step);
        }
    }
    matching
}

/// The code of a step: for tests and the demo.
///
/// # Errors
/// `Invalid` when the secret is not usable.
pub fn code_at(secret: &SecretString, step: i64) -> Result<String> {
    let seconds = u64::try_from(step).unwrap_or(0).saturating_mul(PERIOD);
    Ok(build(secret, None)?.generate(seconds).to_string())
}

/// What authenticator apps read: `otpauth://totp/issuer:account?secret=...`.
///
/// # Errors
/// `Invalid` when the secret or the account is not usable.
pub fn otpauth_url(secret: &SecretString, issuer: &str, account: &str) -> Result<SecretString> {
    let totp = build(secret, Some((issuer, account)))?;
    totp.to_url()
        .map(|url| SecretString::new(url.to_string()))
        .map_err(|_| Error::invalid("The account needs a name."))
}

/// A URL as a QR code: SVG text, dark on white independently of the page's theme, with the quiet
/// zone that scanners need.
///
/// # Errors
/// `Invalid` when the URL is too long for a QR code.
pub fn qr_svg(url: &SecretString) -> Result<SecretString> {
    let code = QrCode::with_error_correction_level(url.expose().as_bytes(), EcLevel::M)
        .map_err(|_| Error::invalid("The account name is too long for a QR code."))?;
    let svg = code
        .render::<svg::Color<'_>>()
        .min_dimensions(240, 240)
        .quiet_zone(true)
        .dark_color(svg::Color("#000000"))
        .light_color(svg::Color("#ffffff"))
        .build();
    Ok(SecretString::new(svg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The SHA-1 seed of RFC 6238 appendix B, "12345678901234567890".
    fn rfc_secret() -> SecretString {
        SecretString::new("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".to_owned())
    }

    #[test]
    fn rfc_6238_appendix_b() {
        // The table's codes have eight digits; six are the last six of them (RFC 4226 section 5.3:
        // modulo a power of ten).
        for (seconds, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            let now = Timestamp(seconds * 1000);
            assert_eq!(code_at(&rfc_secret(), step_of(now)).unwrap(), code[2..]);
            assert_eq!(matching_step(&rfc_secret(), &code[2..], now), Some(step_of(now)));
        }
    }

    #[test]
    fn codes_are_six_digits() {
        let now = Timestamp(59_000);
        assert_eq!(matching_step(&rfc_secret(), "287 082", now), Some(1));
        for bad in ["", "28708", "2870822", "94287082", "+87082", "28708x", "٢٨٧٠٨٢"] {
            assert_eq!(matching_step(&rfc_secret(), bad, now), None, "{bad}");
        }
    }

    #[test]
    fn secrets_are_checked() {
        assert!(validate_secret(&new_secret()).is_ok());
        for bad in ["", "GEZDGNBV", "not base32!"] {
            assert!(validate_secret(&SecretString::new(bad.to_owned())).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_and_qr_codes() {
        let url = otpauth_url(&rfc_secret(), "Port: cullis", "ann@example.com").unwrap();
        assert!(url.expose().starts_with("otpauth://totp/Port"), "{}", url.expose());
        assert!(url.expose().contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"));
        let svg = qr_svg(&url).unwrap();
        assert!(svg.expose().contains("<svg") && svg.expose().contains("#ffffff"));
        assert!(qr_svg(&SecretString::new("x".repeat(5000))).is_err());
    }

    proptest! {
        #[test]
        fn a_code_matches_within_its_window_only(seconds in 120i64..4_000_000_000, drift in -3i64..=3) {
            let secret = rfc_secret();
            let now = Timestamp(seconds * 1000);
            let step = step_of(now) + drift;
            let code = code_at(&secret, step).unwrap();
            let found = matching_step(&secret, &code, now);
            if drift.abs() <= 1 {
                prop_assert!(found.is_some());
            } else if let Some(other) = found {
                // Two steps may share a code by chance.
                prop_assert_eq!(code_at(&secret, other).unwrap(), code);
            }
        }
    }
}
