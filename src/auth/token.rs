//! Access tokens: JWTs (RFC 7519) signed with Ed25519 (RFC 8037). They are short-lived, and the
//! broker checks in the store at every use that the login is active.
//!
//! | term | meaning |
//! | --- | --- |
//! | `kid` | the key's JWK thumbprint (RFC 7638): the same key has the same id on every gateway |
//! | signing key | the newest; older ones verify their tokens until these expire |
//!
//! The algorithm is fixed: a token with any other than `EdDSA`, or without a known `kid`, is
//! refused (RFC 8725 sections 3.1 and 3.2).

use super::random::random_bytes;
use crate::domain::secret::SecretBytes;
use crate::domain::user::Role;
use crate::domain::{Error, LoginId, OrganizationId, Result, Timestamp, UserId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

pub const ISSUER: &str = "portcullis";
pub const AUDIENCE: &str = "portcullis-api";
/// Longest accepted token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4096;
/// How far ahead another gateway's clock may be, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 5;
/// PKCS #8 prefix of an Ed25519 seed (RFC 8410 section 7): version 0, algorithm 1.3.101.112, an
/// octet string within an octet string.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claims {
    pub sub: UserId,
    pub org: OrganizationId,
    pub sid: LoginId,
    /// Role at the time of issue; the store decides.
    pub role: Role,
    /// Whether a second factor was verified at the time of issue; the store decides.
    pub mfa: bool,
    /// When issued, in unix seconds.
    pub iat: i64,
    /// When it expires, in unix seconds.
    pub exp: i64,
    /// [`ISSUER`].
    pub iss: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// Unique id of the token.
    pub jti: String,
}

/// What an application behind the gateway receives about a user: signed, short-lived, and for that
/// application only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Assertion {
    pub sub: UserId,
    pub email: String,
    pub name: String,
    /// The role, as the application's groups.
    pub groups: Vec<String>,
    /// When issued, in unix seconds.
    pub iat: i64,
    /// When it expires, in unix seconds.
    pub exp: i64,
    /// [`ISSUER`].
    pub iss: String,
    pub aud: String,
    /// Unique id of the assertion.
    pub jti: String,
}

/// The `typ` of an assertion, which is never accepted as an access token, nor the other way round
/// (RFC 8725 section 3.11).
pub const ASSERTION_TYPE: &str = "portcullis-assertion+jwt";

/// The keys that sign and verify tokens. Cheap to clone.
#[derive(Clone)]
pub struct TokenKeys {
    keys: Arc<Vec<Key>>,
}

struct Key {
    kid: String,
    x: String,
    encoding_key: EncodingKey,
    decoding_key: DecodingKey,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}

fn refused(cause: &str) -> Error {
    Error::unauthenticated("Invalid or expired token").caused_by(cause)
}

impl TokenKeys {
    /// A new signing key: its id, and its seed (32 bytes) to be sealed and stored.
    #[must_use]
    pub fn generate() -> (String, SecretBytes) {
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random_bytes());
        let kid = thumbprint(&public_x(&seed));
        (kid, SecretBytes::new(seed.to_vec()))
    }

    /// The keys of stored seeds, oldest first: the last one signs.
    ///
    /// # Errors
    /// `Internal` when there is none, or a seed does not match its id.
    pub fn new(stored: impl IntoIterator<Item = (String, SecretBytes)>) -> Result<Self> {
        let keys = stored
            .into_iter()
            .map(|(kid, seed)| Key::new(kid, &seed))
            .collect::<Result<Vec<_>>>()?;
        if keys.is_empty() {
            return Err(Error::internal("there is no token signing key"));
        }
        Ok(Self { keys: Arc::new(keys) })
    }

    fn newest(&self) -> &Key {
        self.keys.last().expect("INVARIANT: `new` refuses an empty list")
    }

    /// Id of the signing key.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.newest().kid
    }

    /// Signs a token.
    ///
    /// # Errors
    /// `Internal` when encoding fails.
    pub fn sign(&self, claims: &Claims) -> Result<String> {
        let key = self.newest();
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.kid.clone());
        jsonwebtoken::encode(&header, claims, &key.encoding_key).map_err(Error::internal)
    }

    /// Signs an assertion about a user for an application.
    ///
    /// # Errors
    /// `Invalid` when the audience is this gateway's own; `Internal` when encoding fails.
    pub fn sign_assertion(&self, assertion: &Assertion) -> Result<String> {
        if assertion.aud == AUDIENCE {
            return Err(Error::invalid(
                "The audience of an assertion must be the application's, not the gateway's.",
            ));
        }
        let key = self.newest();
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(ASSERTION_TYPE.to_owned());
        header.kid = Some(key.kid.clone());
        jsonwebtoken::encode(&header, assertion, &key.encoding_key).map_err(Error::internal)
    }

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// `Unauthenticated` for every fault; the cause is for the log.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims> {
        let claims = self.verify_at_any_time(token)?;
        if now.unix_seconds() >= claims.exp {
            return Err(refused("expired"));
        }
        if claims.iat > now.unix_seconds() + CLOCK_SKEW_SECONDS {
            return Err(refused("issued in the future"));
        }
        Ok(claims)
    }

    /// Verifies everything of a token but its time, for questions that an expired one answers, too.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_at_any_time(&self, token: &str) -> Result<Claims> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused("longer than any token"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("not a JWT"))?;
        if header.alg != Algorithm::EdDSA {
            return Err(refused("another algorithm"));
        }
        let key = self
            .keys
            .iter()
            .find(|key| Some(&key.kid) == header.kid.as_ref())
            .ok_or_else(|| refused("unknown key"))?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library would read the system clock; time is an argument of `verify`.
        rules.validate_exp = false;
        let verified = jsonwebtoken::decode::<Claims>(token, &key.decoding_key, &rules);
        Ok(verified.map_err(|_| refused("signature or claims"))?.claims)
    }

    /// The public keys, as a JWK set (RFC 7517, RFC 8037 section 2).
    #[must_use]
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> =
            self.keys.iter().map(|k| json!({"kty": "OKP", "crv": "Ed25519", "x": k.x, "kid": k.kid, "use": "sig", "alg": "EdDSA"})).collect();
        json!({ "keys": keys })
    }
}

impl Key {
    fn new(kid: String, seed: &SecretBytes) -> Result<Self> {
        let wrong = || Error::internal("a stored token signing key is not what its name says");
        let seed =
            Zeroizing::new(<[u8; 32]>::try_from(seed.expose().as_slice()).map_err(|_| wrong())?);
        let x = public_x(&seed);
        if thumbprint(&x) != kid {
            return Err(wrong());
        }
        let mut der = Zeroizing::new(PKCS8_PREFIX.to_vec());
        der.extend_from_slice(&*seed);
        // The library's "ed_der" is PKCS #8 for the private key and the bare 32 bytes for the
        // public key.
        let verifies = DecodingKey::from_ed_components(&x).map_err(Error::internal)?;
        Ok(Self { kid, x, encoding_key: EncodingKey::from_ed_der(&der), decoding_key: verifies })
    }
}

fn public_x(seed: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(SigningKey::from_bytes(seed).verifying_key().as_bytes())
}

/// RFC 7638 section 3 with the members of RFC 8037 section 2: `crv`, `kty`, `x`, in that order,
/// without white space.
fn thumbprint(x: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
}

#[cfg(test)]
mod tests;
