//! The gateway's certificate: the configured PEM files, or a generated one.
//!
//! Generated are a private authority (`DIR/tls/ca.pem`, which clients trust) and a server
//! certificate signed by it (`DIR/tls/server.pem`), both at the first start. It is an authority
//! with a leaf, not one self-signed certificate, because some clients refuse a trust anchor as a
//! server's certificate and others refuse a leaf as a trust anchor. The leaf is reused across
//! restarts, so that a browser with an exception for it reconnects, and is renewed at a start
//! within 30 days of its end or when the names change.

use super::failure::Failure;
use crate::domain::Timestamp;
use crate::files;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Browsers refuse leaf certificates of more than 398 days.
const LEAF_VALIDITY: Duration = Duration::from_secs(397 * 86_400);
/// A leaf is renewed when less than this remains.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);
const CA_VALIDITY: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Certificates are valid from before their creation, since clocks differ.
const BACKDATE: Duration = Duration::from_secs(3600);

/// Files of a generated certificate.
pub struct OwnCertificate {
    /// The authority, which clients trust.
    pub ca: PathBuf,
    /// The server's chain.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Facts about a leaf, stored so that it need not be parsed.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct LeafRecord {
    names: Vec<String>,
    ends: Timestamp,
}

/// The generated certificate in `DIR/tls`, created or renewed when necessary.
///
/// # Errors
/// A sentence naming the file.
pub fn own_certificate(
    data_dir: &Path,
    names: &[String],
    now: Timestamp,
) -> Result<OwnCertificate, Failure> {
    load_or_issue(data_dir, "server", all_names(names), now)
}

/// A wildcard certificate for `*.domain`, signed by the same authority.
///
/// # Errors
/// A sentence naming the file.
pub fn own_wildcard_certificate(
    data_dir: &Path,
    domain: &str,
    now: Timestamp,
) -> Result<OwnCertificate, Failure> {
    load_or_issue(data_dir, "apps", vec![format!("*.{domain}")], now)
}

fn load_or_issue(
    data_dir: &Path,
    stem: &str,
    names: Vec<String>,
    now: Timestamp,
) -> Result<OwnCertificate, Failure> {
    let dir = data_dir.join("tls");
    files::create_private_dir(&dir)
        .map_err(|e| Failure::new(format!("cannot make the folder {}: {e}", dir.display())))?;
    let file = |end: &str| dir.join(format!("{stem}.{end}"));
    let own = OwnCertificate { ca: dir.join("ca.pem"), certificate: file("pem"), key: file("key") };
    let note_path = file("json");
    let stored = files::read_private(&note_path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<LeafRecord>(&bytes).ok());
    let is_valid =
        stored.is_some_and(|note| note.names == names && note.ends > now.after(RENEW_BEFORE));
    if is_valid && own.ca.exists() && own.certificate.exists() && own.key.exists() {
        return Ok(own);
    }
    let made = issue(&dir, &own, &names, now);
    let note = made.map_err(|e| {
        Failure::new(format!("cannot make a certificate in {}: {e}", dir.display()))
    })?;
    let note = serde_json::to_vec(&note).map_err(|e| Failure::new(e.to_string()))?;
    files::replace_private(&note_path, &note)
        .map_err(|e| Failure::new(format!("cannot write {}: {e}", note_path.display())))?;
    Ok(own)
}

/// The names of every generated certificate, and the given ones.
fn all_names(given: &[String]) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    for name in given {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn issue(
    dir: &Path,
    own: &OwnCertificate,
    names: &[String],
    now: Timestamp,
) -> Result<LeafRecord, Box<dyn std::error::Error>> {
    let ca_key_path = dir.join("ca.key");
    let fresh = KeyPair::generate()?;
    let ca_key =
        files::read_or_create_private(&ca_key_path, || fresh.serialize_pem().into_bytes())?;
    let ca_key = KeyPair::from_pem(std::str::from_utf8(&ca_key)?)?;
    let ca = ca_params(now)?;
    if !own.ca.exists() {
        files::replace_public(&own.ca, ca.self_signed(&ca_key)?.pem().as_bytes())?;
    }
    let issuer = Issuer::new(ca, ca_key);
    let leaf_key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names.to_vec())?;
    leaf.distinguished_name
        .push(DnType::CommonName, names.first().map_or("localhost", String::as_str));
    (leaf.not_before, leaf.not_after) =
        (offset_date_time(now.before(BACKDATE))?, offset_date_time(now.after(LEAF_VALIDITY))?);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let signed = leaf.signed_by(&leaf_key, &issuer)?;
    files::replace_private(&own.key, leaf_key.serialize_pem().as_bytes())?;
    files::replace_public(&own.certificate, signed.pem().as_bytes())?;
    Ok(LeafRecord { names: names.to_vec(), ends: now.after(LEAF_VALIDITY) })
}

/// Parameters of the authority's certificate. Its name is constant, so that a leaf of years later
/// still chains to it.
fn ca_params(now: Timestamp) -> Result<CertificateParams, Box<dyn std::error::Error>> {
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.distinguished_name.push(DnType::CommonName, "Portcullis private authority");
    ca.distinguished_name.push(DnType::OrganizationName, "Portcullis");
    (ca.not_before, ca.not_after) =
        (offset_date_time(now.before(BACKDATE))?, offset_date_time(now.after(CA_VALIDITY))?);
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(ca)
}

fn offset_date_time(moment: Timestamp) -> Result<OffsetDateTime, time::error::ComponentRange> {
    OffsetDateTime::from_unix_timestamp(moment.unix_seconds())
}

/// SHA-256 of a PEM file's first certificate, hexadecimal: the `--pin` of joining hosts.
///
/// # Errors
/// A sentence naming the file.
pub fn fingerprint(certificate: &Path) -> Result<String, Failure> {
    let leaf = CertificateDer::from_pem_file(certificate).map_err(|e| {
        Failure::new(format!("cannot use the PEM file {}: {e}", certificate.display()))
    })?;
    Ok(hex::encode(Sha256::digest(&leaf)))
}

/// A server's TLS configuration from PEM files.
///
/// # Errors
/// A sentence naming the file.
pub fn server_config(certificate: &Path, key: &Path) -> Result<rustls::ServerConfig, Failure> {
    let unreadable = |path: &Path, e: &dyn std::fmt::Display| {
        Failure::new(format!("cannot use the PEM file {}: {e}", path.display()))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e| unreadable(certificate, &e))?;
    if chain.is_empty() {
        return Err(unreadable(certificate, &"there is no certificate in it"));
    }
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::new(e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(|e| unreadable(certificate, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use std::os::unix::fs::PermissionsExt as _;

    const NOW: Timestamp = Timestamp(1_772_721_000_000);

    /// A complete handshake in memory with a client that trusts `ca` only.
    fn handshake(own: &OwnCertificate, name: &'static str) -> Result<(), rustls::Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&own.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        #[derive(Debug)]
        struct At;
        impl rustls::time_provider::TimeProvider for At {
            fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
                Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(
                    u64::try_from(NOW.unix_seconds()).unwrap(),
                )))
            }
        }
        let client = rustls::ClientConfig::builder_with_details(provider, Arc::new(At))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client =
            rustls::ClientConnection::new(Arc::new(client), ServerName::try_from(name).unwrap())?;
        let mut server = rustls::ServerConnection::new(Arc::new(
            server_config(&own.certificate, &own.key).unwrap(),
        ))?;
        for _ in 0..10 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking());
        Ok(())
    }

    #[test]
    fn a_generated_certificate_is_trusted_for_its_names_and_reused() {
        let dir = tempfile::tempdir().unwrap();
        let own_one = own_certificate(dir.path(), &["desk.example".into()], NOW).unwrap();
        for name in ["localhost", "127.0.0.1", "::1", "desk.example"] {
            handshake(&own_one, name).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        assert!(handshake(&own_one, "other.example").is_err());
        for secret in ["ca.key", "server.key"] {
            assert_eq!(
                std::fs::metadata(dir.path().join("tls").join(secret))
                    .unwrap()
                    .permissions()
                    .mode()
                    & 0o777,
                0o600,
                "{secret}"
            );
        }
        let before = std::fs::read(&own_one.certificate).unwrap();
        let again = own_certificate(
            dir.path(),
            &["desk.example".into()],
            NOW.after(Duration::from_secs(300 * 86_400)),
        )
        .unwrap();
        assert_eq!(std::fs::read(&again.certificate).unwrap(), before, "reused while it is valid");
    }

    #[test]
    fn the_applications_names_have_a_certificate_of_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = own_certificate(dir.path(), &[], NOW).unwrap();
        let apps = own_wildcard_certificate(dir.path(), "apps.localhost", NOW).unwrap();
        assert_eq!(gateway.ca, apps.ca);
        handshake(&apps, "3f0c6a1e-0000-4000-8000-000000000000.apps.localhost").unwrap();
        for other in ["apps.localhost", "localhost", "a.b.apps.localhost"] {
            assert!(handshake(&apps, other).is_err(), "{other}");
        }
        assert!(handshake(&gateway, "a.apps.localhost").is_err());
        let before = std::fs::read(&apps.certificate).unwrap();
        assert_eq!(
            std::fs::read(
                own_wildcard_certificate(dir.path(), "apps.localhost", NOW).unwrap().certificate
            )
            .unwrap(),
            before,
            "reused while it is valid"
        );
    }

    #[test]
    fn a_leaf_is_renewed_under_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let long_ago = Timestamp(NOW.0 - 380 * 86_400_000);
        let old = own_certificate(dir.path(), &[], long_ago).unwrap();
        let (ca, leaf) =
            (std::fs::read(&old.ca).unwrap(), std::fs::read(&old.certificate).unwrap());
        let new = own_certificate(dir.path(), &[], NOW).unwrap();
        assert_eq!(std::fs::read(&new.ca).unwrap(), ca);
        assert_ne!(std::fs::read(&new.certificate).unwrap(), leaf);
        handshake(&new, "localhost").unwrap();
        own_certificate(dir.path(), &["added.example".into()], NOW).unwrap();
        handshake(&new, "added.example").unwrap();
    }

    #[test]
    fn bad_pem_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none.pem");
        assert!(server_config(&missing, &missing).unwrap_err().to_string().contains("none.pem"));
        std::fs::write(&missing, "not pem").unwrap();
        assert!(
            server_config(&missing, &missing)
                .unwrap_err()
                .to_string()
                .contains("there is no certificate in it")
        );
    }
}
