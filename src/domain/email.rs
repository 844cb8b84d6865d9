//! The key by which e-mail addresses are compared: of an account, and of the tries to sign in to it.
//!
//! People write one address in several ways: with capitals, with accents composed or apart (Unicode
//! Standard Annex #15), its domain as letters or as a-labels (RFC 5890 section 2.3.2.1). All of them
//! are one account, and share its limits.

use icu_normalizer::ComposingNormalizerBorrowed;

/// Longest address that is normalized, in bytes; no account has a longer one (RFC 5321 section
/// 4.5.3.1.3).
const LENGTH_MAX: usize = 320;

/// The key of an address: without surrounding space, in lower case, composed, its domain in letters.
#[must_use]
pub fn email_key(address: &str) -> String {
    let address = address.trim();
    if address.is_ascii() && !address.contains("--") || address.len() > LENGTH_MAX {
        return address.to_lowercase();
    }
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    let composed = |text: &str| nfc.normalize(&nfc.normalize(text).to_lowercase()).into_owned();
    match address.rsplit_once('@') {
        // Labels that are not valid stay as they are: the key of no account.
        Some((local, domain)) => {
            let (domain, _) = idna::domain_to_unicode(domain);
            format!("{}@{}", composed(local), composed(&domain))
        }
        None => composed(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_address_has_one_key() {
        for (one, other) in [
            ("sam@example.com", " Sam@EXAMPLE.com "),
            ("user@bücher.example", "user@xn--bcher-kva.example"),
            ("user@bücher.example", "USER@XN--BCHER-KVA.example"),
            ("user@bücher.example", "user@bu\u{308}cher.example"),
            ("user@bücher.example", "user@BÜCHER.example"),
            ("user@bücher.example", "user@bücher。example"),
            ("j\u{fc}rgen@example.com", "ju\u{308}rgen@example.com"),
            ("j\u{fc}rgen@example.com", "J\u{dc}RGEN@example.com"),
            ("\u{e9}@b", "e\u{301}@b"),
        ] {
            assert_eq!(email_key(one), email_key(other), "{one} {other}");
        }
        for (one, other) in [
            ("a@example.com", "b@example.com"),
            ("a@bücher.example", "a@bucher.example"),
            ("jürgen@example.com", "jurgen@example.com"),
            ("a--b@example.com", "a-b@example.com"),
        ] {
            assert_ne!(email_key(one), email_key(other), "{one} {other}");
        }
        assert_eq!(email_key("Sam@Example.com"), "sam@example.com", "as it was always stored");
        assert_eq!(email_key("a@xn--.example"), email_key("a@XN--.example"));
        assert!(email_key(&"é".repeat(1_000_000)).len() >= 1_000_000);
    }

    proptest! {
        #[test]
        fn a_key_is_its_own_key(address in "\\PC{0,12}@?(xn--)?\\PC{0,12}") {
            let key = email_key(&address);
            prop_assert_eq!(email_key(&key), key);
        }
    }
}
