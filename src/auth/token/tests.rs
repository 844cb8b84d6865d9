//! Forged, expired and foreign tokens.

use super::*;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use std::sync::LazyLock;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_772_721_000_000);

static KEYS: LazyLock<TokenKeys> =
    LazyLock::new(|| TokenKeys::new([TokenKeys::generate()]).unwrap());

fn claims() -> Claims {
    Claims {
        sub: UserId::new(),
        org: OrganizationId::new(),
        sid: LoginId::new(),
        role: Role::Member,
        mfa: true,
        iat: NOW.unix_seconds(),
        exp: NOW.unix_seconds() + 600,
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        jti: "one".to_owned(),
    }
}

/// A token with this header and these claims, under a signature made by `sign` over its first two
/// parts.
fn forge(header: &Value, claims: &Claims, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &[u8]| URL_SAFE_NO_PAD.encode(value);
    let text = format!(
        "{}.{}",
        part(header.to_string().as_bytes()),
        part(&serde_json::to_vec(claims).unwrap())
    );
    let signature = sign(text.as_bytes());
    format!("{text}.{}", part(&signature))
}

fn refused(token: &str) {
    let error = KEYS.verify(token, NOW).unwrap_err();
    assert_eq!(error.kind, crate::domain::ErrorKind::Unauthenticated);
    assert_eq!(error.message, "Invalid or expired token");
}

#[test]
fn own_tokens_verify() {
    let claims = claims();
    let token = KEYS.sign(&claims).unwrap();
    assert_eq!(KEYS.verify(&token, NOW).unwrap(), claims);
    assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid.as_deref(), Some(KEYS.kid()));
}

#[test]
fn expired_and_future_are_refused() {
    let token = KEYS.sign(&claims()).unwrap();
    assert!(KEYS.verify(&token, NOW.after(Duration::from_secs(599))).is_ok());
    assert!(KEYS.verify(&token, NOW.after(Duration::from_secs(600))).is_err());
    assert!(KEYS.verify(&token, NOW.before(Duration::from_secs(5))).is_ok());
    assert!(KEYS.verify(&token, NOW.before(Duration::from_secs(6))).is_err());
}

#[test]
fn algorithm_none_is_refused() {
    for alg in ["none", "None", "NONE", ""] {
        let header = json!({"alg": alg, "typ": "JWT", "kid": KEYS.kid()});
        refused(&forge(&header, &claims(), |_| Vec::new()));
    }
}

#[test]
fn hmac_under_the_public_key_is_refused() {
    use hmac::{Hmac, KeyInit, Mac};
    let x = KEYS.jwks()["keys"][0]["x"].as_str().unwrap().to_owned();
    let raw = URL_SAFE_NO_PAD.decode(&x).unwrap();
    for secret in [raw.clone(), x.into_bytes(), STANDARD.encode(&raw).into_bytes()] {
        for alg in ["HS256", "EdDSA"] {
            let header = json!({"alg": alg, "typ": "JWT", "kid": KEYS.kid()});
            refused(&forge(&header, &claims(), |text| {
                let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
                mac.update(text);
                mac.finalize().into_bytes().to_vec()
            }));
        }
    }
}

#[test]
fn unknown_keys_are_refused() {
    use ed25519_dalek::Signer;
    let foreign = SigningKey::from_bytes(&[9; 32]);
    let sign = |text: &[u8]| foreign.sign(text).to_bytes().to_vec();
    for header in [
        json!({"alg": "EdDSA", "kid": KEYS.kid()}),
        json!({"alg": "EdDSA", "kid": thumbprint(&public_x(&[9; 32]))}),
        json!({"alg": "EdDSA", "kid": ""}),
        json!({"alg": "EdDSA"}),
        // A key that the token itself brings is not used (RFC 8725 section 3.10).
        json!({"alg": "EdDSA", "kid": KEYS.kid(), "jwk": {"kty": "OKP", "crv": "Ed25519", "x": public_x(&[9; 32])}}),
    ] {
        refused(&forge(&header, &claims(), sign));
    }
}

#[test]
fn other_issuers_and_audiences_are_refused() {
    refused(&KEYS.sign(&Claims { iss: "else".to_owned(), ..claims() }).unwrap());
    refused(&KEYS.sign(&Claims { aud: "else".to_owned(), ..claims() }).unwrap());
    for nonsense in ["", ".", "..", "a.b.c", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
        refused(nonsense);
    }
}

#[test]
fn old_keys_verify_and_the_newest_signs() {
    let (old, new) = (TokenKeys::generate(), TokenKeys::generate());
    let before = TokenKeys::new([old.clone()]).unwrap();
    let after = TokenKeys::new([old.clone(), new.clone()]).unwrap();
    let token = before.sign(&claims()).unwrap();
    assert!(after.verify(&token, NOW).is_ok());
    assert_eq!(after.kid(), new.0);
    assert_eq!(after.jwks()["keys"].as_array().unwrap().len(), 2);
    assert!(before.verify(&after.sign(&claims()).unwrap(), NOW).is_err());
    assert!(TokenKeys::new([]).is_err());
    assert!(TokenKeys::new([(new.0, old.1)]).is_err());
}

#[test]
fn rfc_8037_appendix_a_thumbprint() {
    assert_eq!(
        thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}

proptest! {
    #[test]
    fn any_changed_character_is_refused(at: prop::sample::Index, other in "[A-Za-z0-9_-]") {
        let token = KEYS.sign(&claims()).unwrap();
        let at = at.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(at..=at, &other);
        // The last character of a part may contain bits that decoding ignores; the library refuses
        // those, so that every change is found.
        prop_assume!(changed != token);
        prop_assert!(KEYS.verify(&changed, NOW).is_err());
    }
}
